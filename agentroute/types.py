"""The values that travel through the house: frozen, slotted, keyword-only.

Units, without exception: quality in [0, 1]; cost in USD; price in USD per million tokens; latency in seconds; embeddings
float32 unit rows; unknown is `None` or NaN, never 0.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError

__all__ = [
    "Candidate",
    "Decision",
    "Estimate",
    "Fingerprint",
    "Matrix",
    "ModelCard",
    "Outcome",
    "Paradigm",
    "Price",
    "Query",
    "Usage",
    "Vectors",
    "new_id",
]

Vectors: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]
"""Embeddings, float32 [n, d], rows of length 1 (or 0 for a text without any known token)."""
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""float64 [n_queries, n_models]; NaN = not observed or not known."""


def new_id() -> str:
    """A fresh identifier for a decision or an outcome: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, as its provider reports them: not checked, because no call may fail for an odd report.

    Attributes:
        input_tokens: All tokens of the prompt, cached ones included.
        output_tokens: All tokens of the answer, reasoning included.
        cache_read_tokens: The part of `input_tokens` that the provider read from its prompt cache.
        cache_write_tokens: The part of `input_tokens` that the provider wrote to its prompt cache.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The tokens of both calls together."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model charges, in USD per million tokens.

    Attributes:
        input: USD per million prompt tokens.
        output: USD per million answer tokens.
        cache_read: USD per million prompt tokens read from the cache; `None` = as `input`.
        cache_write: USD per million prompt tokens written to the cache; `None` = as `input`.
        per_call: USD for each call, whatever its length.
        source: Where the figures come from (`"user"`, or a price book's name and version).

    >>> Price(input=2.0, output=8.0).cost(Usage(input_tokens=1_000, output_tokens=500))
    0.006
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    per_call: float = 0.0
    source: str = "user"

    def __post_init__(self) -> None:
        """Refuses negative and non-finite rates: a typing error here would make a model look free."""
        for name in ("input", "output", "cache_read", "cache_write", "per_call"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate >= 0):
                msg = f"price {name}={rate!r}: give USD per million tokens, 0 or more; leave the whole price None when unknown"
                raise ConfigError(msg)

    def cost(self, usage: Usage, /) -> float:
        """USD for one call with this usage.

        A provider may report more cached tokens than tokens: no token is then billed as a plain one, rather than fewer than
        none.
        """
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        tokens = (
            plain * self.input
            + usage.cache_read_tokens * read
            + usage.cache_write_tokens * write
            + usage.output_tokens * self.output
        )
        return tokens / 1e6 + self.per_call


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model before it is called.

    Attributes:
        id: The name by which pool, log and decisions know the model.
        price: Its price; `None` = unknown, which is not free.
        context_window: Most tokens of prompt and answer together; `None` = unknown, not checked.
        max_output_tokens: Most tokens of an answer; `None` = unknown, not checked.
        capabilities: What it can do beyond text (`"tools"`, `"structured_output"`, `"image"`, `"audio"`, `"pdf"` …);
            `None` = not declared, not checked; an empty set = nothing of the kind.
        provider: Who serves it.
        tags: Free labels, such as a region or a data class.
        description: One line for people.
    """

    id: str
    price: Price | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    provider: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        """Checks the id, and accepts any iterable of capabilities."""
        if not self.id or not isinstance(self.id, str):
            msg = f"a model needs a non-empty id, not {self.id!r}"
            raise ConfigError(msg)
        if self.capabilities is not None:
            object.__setattr__(self, "capabilities", _names(self.capabilities, "capabilities"))
        for name in ("context_window", "max_output_tokens"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                msg = f"model {self.id!r}: {name}={limit!r} must be positive, or None when unknown"
                raise ConfigError(msg)


def _names(values: Iterable[str], what: str) -> frozenset[str]:
    if isinstance(values, str):
        msg = f"{what}={values!r}: give a set of names, not one string"
        raise ConfigError(msg)
    return frozenset(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Which embedder made a vector: vectors with different fingerprints must not be compared.

    Attributes:
        name: The embedder's name.
        revision: Version or content hash of its weights.
        dimension: Length of its vectors.
    """

    name: str
    revision: str
    dimension: int

    def __str__(self) -> str:
        """Short form for messages: `name@revision (256-d)`."""
        return f"{self.name}@{self.revision} ({self.dimension}-d)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """One request, as a router sees it.

    Attributes:
        text: What to route on, normally the user's last message. Lone surrogates are replaced by U+FFFD, because no
            store and no provider can carry them.
        id: The key that joins outcomes of several models for the same query; `None` = derived from text and labels.
        role: The agent role that asks (`"planner"`), a routing feature.
        task: The kind of task (`"extraction"`), a routing feature.
        tags: Further labels, each a routing feature.
        needs: Capabilities that the model must have.
        input_tokens: Tokens of the whole prompt, if counted; checked against context windows.
        max_output_tokens: Tokens that the answer may take, if limited; checked against windows and output limits.
        allow: Ids of the only models that may answer; `None` = all of the pool.
        embedding: float32 [d], set once it has been computed.
        fingerprint: The embedder that made `embedding`.
        withheld: Whether the query had a text that a log did not keep, which is not an empty text; never with a text.
    """

    text: str
    id: str | None = None
    role: str | None = None
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    allow: frozenset[str] | None = None
    embedding: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    fingerprint: Fingerprint | None = field(default=None, repr=False)
    withheld: bool = False

    def __post_init__(self) -> None:
        """Makes the text encodable and the sets sets, and checks that labels are strings."""
        if not isinstance(self.text, str):
            msg = f"a query's text must be a string, not {type(self.text).__name__}"  # type: ignore[unreachable]  # not every caller has a type checker
            raise ConfigError(msg)
        try:
            self.text.encode()
        except UnicodeEncodeError:
            # surrogatepass+replace: a lone surrogate becomes U+FFFD, a pair written as two halves becomes its character.
            joined = self.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            object.__setattr__(self, "text", joined)
        if type(self.needs) is not frozenset:
            object.__setattr__(self, "needs", _names(self.needs, "needs"))
        if self.allow is not None and type(self.allow) is not frozenset:
            object.__setattr__(self, "allow", _names(self.allow, "allow"))
        if self.withheld and self.text:
            object.__setattr__(self, "withheld", False)
        for name in ("id", "role", "task"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                msg = f"a query's {name} must be a string or None, not {value!r}: give str(...)"
                raise ConfigError(msg)
        if self.tags:
            _check_tags(self.tags)

    @property
    def labels(self) -> tuple[str, ...]:
        """Task, role and tags as `kind=value` strings: the categorical routing features.

        What stands before the first `=` is the kind: `=` in a tag's key is written `%3D`, and `%` as `%25`.
        """
        found = []
        if self.task is not None:
            found.append(f"task={self.task}")
        if self.role is not None:
            found.append(f"role={self.role}")
        found.extend(f"tag:{_escaped(key)}={value}" for key, value in sorted(self.tags.items()))
        return tuple(found)

    def key(self, salt: bytes = b"") -> str:
        """The query's id, or else a keyed hash of its text and labels (BLAKE2b, 16 bytes, hexadecimal)."""
        if self.id is not None:
            return self.id
        body = "\0".join((self.text, *self.labels)).encode(errors="surrogatepass")  # labels may hold what no store can carry
        return hashlib.blake2b(body, key=salt[:64], digest_size=16).hexdigest()


def _check_tags(tags: Mapping[str, str]) -> None:
    items = tags.items() if isinstance(tags, Mapping) else [(tags, None)]  # type: ignore[redundant-expr]  # not every caller has a type checker
    for item in items:
        if not all(isinstance(part, str) for part in item):
            msg = f"a query's tags must map strings to strings, not {tags!r}: give str(...) of each"
            raise ConfigError(msg)


def _escaped(key: str) -> str:
    return key.replace("%", "%25").replace("=", "%3D")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What happened when a model answered a query.

    Attributes:
        query: The query; what of it is stored is the log's business.
        model: The id of the model that was called.
        quality: How good the answer was, in [0, 1]; `None` = not judged yet.
        cost: USD that the call cost; `None` = unknown.
        latency: Seconds from the request to the whole answer; `None` = unknown.
        usage: Its tokens.
        error: The error's class name when the call failed.
        decision_id: The decision that led to this call; feedback refers to it.
        attempt: 0 for the first model called for a decision, 1 for the next one …
        propensity: Probability with which the policy chose this model for this query.
        scorer: What produced `quality` (`"verifier"`, `"judge"`, `"user"` …).
        at: When the call ended (timezone-aware).
        metadata: Plain JSON values to keep with the row.
        id: The outcome's own key; appending it twice stores it once.
    """

    query: Query
    model: str
    quality: float | None = None
    cost: float | None = None
    latency: float | None = None
    usage: Usage | None = None
    error: str | None = None
    decision_id: str | None = None
    attempt: int = 0
    propensity: float | None = None
    scorer: str | None = None
    at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        """Checks the ranges; NaN becomes `None`."""
        for name, top in (("quality", 1.0), ("cost", math.inf), ("latency", math.inf), ("propensity", 1.0)):
            value = getattr(self, name)
            if value is None:
                continue
            try:
                unknown = math.isnan(value)
            except (TypeError, OverflowError) as error:
                msg = f"{name} of model {self.model!r} must be a number or None, not {str(value)[:40]!r}"
                raise DataError(msg) from error
            if unknown:
                object.__setattr__(self, name, None)
            elif not 0.0 <= value <= top or math.isinf(value):
                msg = f"{name}={value!r} of model {self.model!r} is outside [0, {top:g}]: rescale it before logging"
                raise DataError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """What an estimator expects of every model for every query.

    Attributes:
        models: Column names.
        quality: float64 [n, m] in [0, 1]; NaN = no idea.
        quality_std: float64 [n, m], standard error of `quality`.
        cost: float64 [n, m], USD a call; NaN = unknown.
        latency: float64 [n, m], seconds; NaN = unknown.
        support: float64 [n, m], effective number of observations of that model behind the estimate.
        similarity: float64 [n], mean cosine of the nearest logged queries; NaN where the estimator has no such notion.
        supported: bool [n], whether the query is like those that the estimator has learned from.
        neighbours: int64 [n, k], rows of the fitted table, nearest first, -1 = none; `None` = not a neighbour method.
    """

    models: tuple[str, ...]
    quality: Matrix
    quality_std: Matrix
    cost: Matrix
    latency: Matrix
    support: Matrix
    similarity: npt.NDArray[np.float64]
    supported: npt.NDArray[np.bool_]
    neighbours: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paradigm:
    """The survey's three dimensions of a routing decision (Moslem and Kelleher 2026, arXiv:2603.04445).

    Attributes:
        when: `"pre-generation"`, `"post-generation"`, or `"multi-stage"`.
        what: The information used: `"text"`, `"embedding"`, `"labels"`, `"logged outcomes"`, `"cost"`, `"budget"` …
        how: The computation: `"lookup"`, `"regression"`, `"threshold"`, `"optimisation"`, `"bandit"`, `"rule"`.
    """

    when: str
    what: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One eligible model of a decision.

    Attributes:
        model: Its id.
        quality: Expected quality in [0, 1]; `None` = no idea.
        cost: Expected USD; `None` = unknown.
        latency: Expected seconds; `None` = unknown.
        utility: What the policy ranks by; `None` = not scored.
        support: Effective number of observations behind the estimate.
    """

    model: str
    quality: float | None = None
    cost: float | None = None
    latency: float | None = None
    utility: float | None = None
    support: float = 0.0


DecidedBy: TypeAlias = Literal["policy", "default", "forced", "sticky"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which model should answer, and why.

    Attributes:
        model: The chosen model's id.
        candidates: Every eligible model, best first; the chosen one leads. Failover follows this order.
        reason: One sentence for people.
        by: `"policy"`; `"default"` = thin support, no log or a failed router; `"forced"` and `"sticky"` = the caller's.
        propensity: Probability with which the policy chose this model; 1 for a deterministic policy.
        paradigm: The decision's when, what and how.
        id: The key under which outcomes and feedback refer to it.
    """

    model: str
    candidates: tuple[Candidate, ...]
    reason: str
    by: DecidedBy = "policy"
    propensity: float = 1.0
    paradigm: Paradigm
    id: str = field(default_factory=new_id)

    @property
    def ranking(self) -> tuple[str, ...]:
        """The candidates' ids, best first."""
        return tuple(candidate.model for candidate in self.candidates)

    @property
    def chosen(self) -> Candidate:
        """What is expected of the chosen model."""
        return next(one for one in self.candidates if one.model == self.model)
