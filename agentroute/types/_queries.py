"""What is asked, and what came of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.types._models import Usage
from agentroute.types._shared import names, new_id

__all__ = ["Fingerprint", "Outcome", "Query"]


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
            object.__setattr__(self, "needs", names(self.needs, "needs"))
        if self.allow is not None and type(self.allow) is not frozenset:
            object.__setattr__(self, "allow", names(self.allow, "allow"))
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
