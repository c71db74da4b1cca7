"""Decisions as a live policy made them: what was picked, with which chance, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, UnknownModelError
from agentroute.outcomes import OutcomeLog, OutcomeTable
from agentroute.outcomes._cells import _cost, checked_prices
from agentroute.types import Fingerprint, Outcome, Price, Query, Vectors

__all__ = ["LoggedDecisions"]

Floats = npt.NDArray[np.float64]

_REMEDIES = {
    "no propensity": "log the propensity, the probability with which the policy picked the model (Outcome.propensity)",
    "not judged": "judge the answers (log.feedback, or Outcome.quality)",
    "failed, not judged": "log a quality of 0 where a failure counts against the model",
}


def _unknown() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedDecisions:
    """What a policy did, one row a decision, each with one model's answer. Arrays are not to be changed in place.

    Attributes:
        queries: The n queries.
        models: The m model ids; a column of `support` for each.
        action: int64 [n], the column of the model that was picked.
        propensity: float64 [n] in (0, 1], the probability with which the policy picked it for this query.
        quality: float64 [n] in [0, 1], how good its answer was.
        cost: float64 [n], USD; NaN = unknown. Left out = all unknown.
        support: bool [n, m], the models that the policy could have picked for the query; `None` = not known. On a row of
            propensity 1 that is the picked one alone, whatever is said here.
        embeddings: float32 [n, d], or `None` where not all queries have a vector of one embedder.
        fingerprint: The embedder that made `embeddings`; given exactly when they are.
        left_out: Why outcomes of the log are not rows here → how many.

    Raises:
        DataError: There are no decisions, or the arrays are misshapen or hold values out of range.
    """

    queries: tuple[Query, ...]
    models: tuple[str, ...]
    action: npt.NDArray[np.int64]
    propensity: Floats
    quality: Floats
    cost: Floats = field(default_factory=_unknown)
    support: npt.NDArray[np.bool_] | None = None
    embeddings: Vectors | None = None
    fingerprint: Fingerprint | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks shapes and ranges once, so that nothing that replays decisions has to."""
        object.__setattr__(self, "queries", tuple(self.queries))
        object.__setattr__(self, "models", tuple(self.models))
        n, m = len(self.queries), len(self.models)
        if not n or not m:
            raise DataError("there are no logged decisions to replay: give at least one, and the models it chose from")
        if len(set(self.models)) < m:
            raise DataError(f"models {list(self.models)!r} name one model twice: give each its own column")
        action = np.asarray(self.action)
        if action.dtype.kind not in "iu":
            raise DataError(f"action holds {action.dtype} values: give the number of the picked model's column")
        object.__setattr__(self, "action", action.astype(np.int64))
        for name in ("propensity", "quality", "cost"):
            array = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, np.full(n, np.nan) if name == "cost" and not array.size else array)
        for name in ("action", "propensity", "quality", "cost"):
            if getattr(self, name).shape != (n,):
                raise DataError(f"{name} has the shape {getattr(self, name).shape}, not ({n},): one value a decision")
        # Written so that NaN is refused too, but where it is allowed.
        self._check("action", (self.action >= 0) & (self.action < m), f"is none of the columns 0 to {m - 1}")
        self._check(
            "propensity", (self.propensity > 0) & (self.propensity <= 1), "is outside (0, 1]: what was picked had a chance"
        )
        self._check(
            "quality", (self.quality >= 0) & (self.quality <= 1), "is outside [0, 1]: rescale it; leave out what is not judged"
        )
        self._check("cost", np.isnan(self.cost) | ((self.cost >= 0) & np.isfinite(self.cost)), "must be USD, or NaN when unknown")
        self._check_support()
        if self.embeddings is not None or self.fingerprint is not None:
            # A table knows what belongs to embeddings.
            object.__setattr__(self, "embeddings", self.table().embeddings)

    def _check(self, name: str, good: npt.NDArray[np.bool_], wrong: str) -> None:
        if not good.all():
            row = int(np.argmin(good))
            raise DataError(f"row {row}: {name} {getattr(self, name)[row]:g} {wrong}")

    def _check_support(self) -> None:
        if self.support is None:
            return
        support, shape = np.asarray(self.support), (len(self.queries), len(self.models))
        if support.shape != shape or support.dtype != np.bool_:
            raise DataError(f"support is an array of {support.dtype} {support.shape}, not of bool {shape}: one column a model")
        object.__setattr__(self, "support", support)
        own = support[np.arange(len(support)), self.action]
        if not own.all():
            row = int(np.argmin(own))
            raise DataError(f"row {row}: {self.models[self.action[row]]!r} was picked, and support says that it could not be")

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Iterable[Outcome] | OutcomeLog,
        /,
        *,
        models: Iterable[str] | None = None,
        support: Iterable[str] | None = None,
        prices: Mapping[str, Price] | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> Self:
        """The decisions of a log: first attempts of which both propensity and quality are known.

        Later attempts were not picked by the policy but by the failure of earlier ones. Of outcomes that share a decision id the
        latest is kept (by `at`, else by their order), with its feedback. What is left out, and why, is counted in `left_out`.

        What stays is taken to be like all traffic: where the chance of being judged hangs on how good the answer was (people
        complain more than they praise, failures are not scored), every figure is of judged traffic only.

        Args:
            outcomes: A log, or any outcomes.
            models: The first columns; other models that were picked follow. They cannot be left out: a decision for a model
                that the target never picks counts too.
            support: Ids of the models that the policy could have picked for every query that left something to chance; `None` =
                not known. Where it differs between queries, give `dataclasses.replace(logged, support=...)` an array. Of a
                propensity of 1 it is known that nothing else could have been picked.
            prices: Model id → price, for the outcomes that have a usage but no cost.
            fingerprint: The embedder whose vectors are wanted; `None` = the one that made most.

        Raises:
            DataError: No outcome can be replayed, or one holds a propensity of 0.
            ConfigError: `outcomes` is no log, or one of `prices` no `Price`.
            UnknownModelError: `support` names a model that is no column.
        """
        if isinstance(outcomes, str | Path):
            raise ConfigError(f"{str(outcomes)!r} is a path: open the log first, with SqliteOutcomeLog(path)")
        if isinstance(outcomes, OutcomeTable):
            raise ConfigError("an OutcomeTable holds no propensities: give the log, or the outcomes, that it was made of")
        known = checked_prices(prices)
        found, left_out = _decisions(outcomes)
        columns = {model: j for j, model in enumerate(dict.fromkeys(models or ()))}
        action = [columns.setdefault(outcome.model, len(columns)) for outcome in found]
        possible = None
        if support is not None:
            chosen = [support] if isinstance(support, str) else list(support)
            for model in chosen:
                if model not in columns:
                    raise UnknownModelError(model, columns, where="the log")
            possible = np.tile(np.isin(list(columns), chosen), (len(found), 1))
        queries, vectors, made_by = _embedded([outcome.query for outcome in found], fingerprint)
        return cls(
            queries=queries,
            models=tuple(columns),
            action=np.array(action, np.int64),
            propensity=np.array([outcome.propensity for outcome in found], np.float64),
            quality=np.array([outcome.quality for outcome in found], np.float64),
            cost=np.array([_cost(outcome, known) for outcome in found], np.float64),
            support=possible,
            embeddings=vectors,
            fingerprint=made_by,
            left_out=left_out,
        )

    def take(self, rows: Sequence[int] | npt.NDArray[Any], /) -> Self:
        """Some of the decisions, by numbers or by a mask of booleans [n]: those of one task, or those after a day."""
        chosen = np.arange(len(self))[np.asarray(rows) if len(rows) else np.empty(0, np.int64)]
        arrays = {name: getattr(self, name)[chosen] for name in ("action", "propensity", "quality", "cost")}
        for name in ("support", "embeddings"):
            whole = getattr(self, name)
            arrays[name] = None if whole is None else whole[chosen]
        return replace(self, queries=tuple(self.queries[i] for i in chosen), **arrays)

    def asked(self) -> list[Query]:
        """The queries, each with its vector where there is one."""
        if self.embeddings is None:
            return list(self.queries)
        pairs = zip(self.queries, self.embeddings, strict=True)
        return [replace(query, embedding=vector, fingerprint=self.fingerprint) for query, vector in pairs]

    def table(self) -> OutcomeTable:
        """The same as a table with holes, one row a decision: what an estimator can learn from."""
        n, at = len(self), np.arange(len(self))
        quality, cost = np.full((2, n, len(self.models)), np.nan)
        quality[at, self.action], cost[at, self.action] = self.quality, self.cost
        return OutcomeTable(
            queries=self.queries,
            models=self.models,
            quality=quality,
            cost=cost,
            embeddings=self.embeddings,
            fingerprint=self.fingerprint,
        )

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.queries)

    def __repr__(self) -> str:
        """How many there are, between how many models, and how many outcomes were left out."""
        left = f", {sum(self.left_out.values())} outcomes left out" if self.left_out else ""
        return f"LoggedDecisions({len(self)} decisions, {len(self.models)} models{left})"


def _decisions(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], dict[str, int]]:
    """One outcome for each decision that can be replayed, and why the others cannot be."""
    kept: dict[tuple[str | None, str], Outcome] = {}
    contested: set[tuple[str | None, str]] = set()
    left: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.attempt > 0:
            left["later attempt"] += 1
        elif outcome.propensity is None:
            left["no propensity"] += 1
        elif outcome.quality is None:
            left["failed, not judged" if outcome.error else "not judged"] += 1
        else:
            # An outcome without a decision id is a decision of its own; the same one may have been read twice.
            key = (outcome.decision_id, outcome.id if outcome.decision_id is None else "")
            other = kept.setdefault(key, outcome)
            if other is not outcome:
                left["repeated"] += 1
                contested |= {key} if other.model != outcome.model else set()
                kept[key] = other if _older(outcome, other) else outcome
    for key in contested:
        del kept[key]
        left["two models picked"] += 1
    if not kept:
        reasons = ", ".join(f"{number} {why}" for why, number in left.most_common()) or "the log is empty"
        what = "; ".join(remedy for why, remedy in _REMEDIES.items() if left[why]) or "log some, with propensity and quality"
        raise DataError(f"no outcome of the log can be replayed ({reasons}): {what}")
    return list(kept.values()), dict(left)


def _older(one: Outcome, other: Outcome) -> bool:
    return one.at is not None and other.at is not None and one.at.timestamp() < other.at.timestamp()


def _embedded(queries: list[Query], wanted: Fingerprint | None) -> tuple[tuple[Query, ...], Vectors | None, Fingerprint | None]:
    """The queries without vectors, and those; or as they are, where not all have one of the same embedder."""
    made = Counter(query.fingerprint for query in queries if query.embedding is not None and query.fingerprint is not None)
    if wanted is None and made:
        wanted = made.most_common(1)[0][0]
    vectors = [query.embedding for query in queries if query.embedding is not None and query.fingerprint == wanted]
    if wanted is None or len(vectors) < len(queries):
        return tuple(queries), None, None
    if any(vector.shape != (wanted.dimension,) for vector in vectors):
        raise DataError(f"an embedding of the log is of another length than {wanted} gives: embed the queries again")
    return tuple(replace(query, embedding=None, fingerprint=None) for query in queries), np.stack(vectors), wanted
