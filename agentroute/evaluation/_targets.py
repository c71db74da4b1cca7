"""What a target would have done on logged queries, and what estimates say of the models that it would have picked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, NotFittedError, UnknownModelError
from agentroute.estimators import Estimator, KNNEstimator, MeanEstimator
from agentroute.evaluation._logged import LoggedDecisions
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.types import Fingerprint, Query

__all__ = ["Target", "chances_of", "estimates_of"]

Floats = npt.NDArray[np.float64]
Target: TypeAlias = Router | Callable[[Sequence[Query]], Sequence[str]] | npt.ArrayLike
"""Who is judged: a fitted router, a function from queries to model ids, or float64 [n, m], the chance of each model."""


def chances_of(target: Target, logged: LoggedDecisions) -> Floats:
    """float64 [n, m]: the target's chance of each model; what is missing to 1 falls on models that the log does not know.

    Raises:
        ConfigError: The target is none, or does not answer for every query.
        UnknownModelError: It names a model that neither the log nor its own pool knows.
    """
    n, m = len(logged), len(logged.models)
    if isinstance(target, Router):
        chosen, known = _routed(target, logged), {*logged.models, *target.pool.ids}
    elif callable(target):
        chosen, known = list(target(logged.asked())), set(logged.models)
    else:
        chances = _matrix(target, (n, m), "the target (a fitted router, a function of queries, or an array)")
        wrong = ~((chances >= 0).all(axis=1) & (np.abs(chances.sum(axis=1) - 1.0) < 1e-6))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(f"row {row}: the target's chances {chances[row].tolist()} must be 0 or more and add up to 1")
        return chances
    if len(chosen) != n:
        raise ConfigError(f"the target named {len(chosen)} models for {n} queries: it must name one for each")
    for model in chosen:
        if model not in known:
            raise UnknownModelError(model, logged.models, where="the log")
    column = {model: j for j, model in enumerate(logged.models)}
    picked = np.array([column.get(model, m) for model in chosen], np.int64)
    return np.eye(m + 1)[picked, :m]


def _matrix(given: npt.ArrayLike, shape: tuple[int, int], what: str) -> Floats:
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} cannot be a {type(given).__name__}: {error}") from error
    if values.shape != shape:
        raise ConfigError(f"{what} has the shape {values.shape}, not {shape}: one row a decision, one column a model")
    return values


def _routed(router: Router, logged: LoggedDecisions) -> list[str]:
    if not router.fitted:
        raise NotFittedError("the router has learned nothing yet: call fit first, on other rows than these")
    asked = logged.asked()
    bare = _bare(asked, router.embedder.fingerprint) if router.estimator.uses_embeddings else 0
    if bare:
        raise DataError(
            f"the log kept neither text nor a vector of {router.embedder.fingerprint} for {bare} of {len(asked)} queries, and "
            "the router needs one: leave them out with logged.take(rows), and log queries with their embedding (Router.embed)"
        )
    return [decision.model for decision in router.route_many(asked)]


def _bare(queries: Sequence[Query], wanted: Fingerprint) -> int:
    """Number of queries of which there is neither a text nor a vector of that embedder."""
    return sum(query.withheld and (query.embedding is None or query.fingerprint != wanted) for query in queries)


def estimates_of(
    estimator: Estimator | npt.ArrayLike | None, target: Target, logged: LoggedDecisions
) -> tuple[tuple[Floats, Floats], str]:
    """Estimates of quality and cost that have not seen the row's own answer, and their origin.

    Returns:
        Two arrays float64 [n, m + 1], the last column of which is for a model that the log does not know.

    Raises:
        ConfigError: The estimates are misshapen or out of range, or the estimator needs vectors that are not there.
    """
    table = logged.table()
    nothing = np.full(table.quality.shape, np.nan)
    if estimator is None or isinstance(estimator, Estimator):
        quality, cost, origin = nothing, nothing, "model means"
        vectors = _embedded(table, target)
        if estimator is not None or vectors is not None:
            # A shallow copy, as Router.clone makes: fit binds what it learns anew, and the caller's estimator stays as it is.
            chosen = KNNEstimator() if estimator is None else copy(estimator)
            given = table if vectors is None else vectors
            found = chosen.fit(given).cross_predict(given, np.arange(len(given)))
            quality, cost, origin = found.quality, found.cost, type(chosen).__name__
    else:
        quality, cost, origin = _matrix(estimator, table.quality.shape, "estimator (an Estimator or an array)"), nothing, "given"
        if (quality < 0).any() or (quality > 1).any():
            raise ConfigError("estimates of quality must be in [0, 1], NaN = none: rescale them")
    plain = MeanEstimator(min_rows=1).fit(table).cross_predict(table, np.arange(len(table)))
    return (_filled(quality, plain.quality, logged.quality), _filled(cost, plain.cost, logged.cost)), origin


def _filled(learned: Floats, means: Floats, values: Floats) -> Floats:
    """The estimates, else the model's mean, else, and for any other model, the mean of all other rows."""
    seen = np.isfinite(values)
    own = np.where(seen, values, 0.0)
    overall = ((own.sum() - own) / np.maximum(seen.sum() - seen, 1))[:, None]
    return np.concatenate(
        [np.where(np.isfinite(learned), learned, np.where(np.isfinite(means), means, overall)), overall], axis=1
    )


def _embedded(table: OutcomeTable, target: Target) -> OutcomeTable | None:
    """The table with vectors, where there are or can be any."""
    if table.embeddings is not None:
        return table
    if not isinstance(target, Router) or _bare(table.queries, target.embedder.fingerprint):
        return None
    # A router for the log's models, whether or not the target's own estimator looks at vectors.
    return Router(table.models, embedder=target.embedder).table(table)
