"""Contract suites for estimators and policies, with an embedder and a planted log to run them on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial, update_wrapper

import numpy as np
import numpy.typing as npt

from agentroute.embedders import normalise
from agentroute.errors import NotFittedError
from agentroute.estimators import Estimator
from agentroute.outcomes import OutcomeTable
from agentroute.policies import Policy
from agentroute.types import Estimate, Fingerprint, Query, Vectors

__all__ = ["HashEmbedder", "estimator_checks", "planted_table", "policy_checks"]

Check = Callable[[], None]


class HashEmbedder:
    """The sum of one random direction a word, drawn from the word's hash.

    Deterministic, fast, and good enough to tell planted kinds apart.

    >>> HashEmbedder(dimension=8).embed(["two words"]).shape
    (1, 8)
    """

    def __init__(self, *, dimension: int = 32) -> None:
        self.dimension = dimension

    @property
    def fingerprint(self) -> Fingerprint:
        """Name and dimension."""
        return Fingerprint(name="hash", revision="1", dimension=self.dimension)

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """float32 [n, d], unit rows; zero rows for texts without words."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        known: dict[str, npt.NDArray[np.float32]] = {}
        for row, text in enumerate(texts):
            for word in text.split():
                if word not in known:
                    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
                    known[word] = np.random.default_rng(int.from_bytes(digest)).standard_normal(self.dimension, np.float32)
                vectors[row] += known[word]
        return normalise(vectors)


def planted_table(rows: int = 400, *, models: int = 3, kinds: int = 3, noise: float = 0.1, seed: int = 0) -> OutcomeTable:
    """A log in which kind i of query is answered best by model i, and a later model costs more.

    Args:
        rows: Queries.
        models: Models, called `m0`, `m1` ...; `m0` is the cheapest.
        kinds: Kinds of query; the text says the kind, `task` names it.
        noise: Standard deviation of the quality.
        seed: Of everything random.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, kinds, rows)
    queries = tuple(
        Query(text=f"kind{k} word{k} topic{k} item{i} {'x' * int(rng.integers(1, 5))}", id=f"q{i}", task=f"kind{k}")
        for i, k in enumerate(kind.tolist())
    )
    quality = np.where(np.arange(models)[None, :] == kind[:, None] % models, 0.85, 0.35)
    quality = np.clip(quality + noise * rng.standard_normal((rows, models)), 0.0, 1.0)
    cost = np.array([0.001 * 4**j for j in range(models)]) * rng.uniform(0.8, 1.25, (rows, models))
    latency = np.array([0.2 * (j + 1) for j in range(models)]) * rng.uniform(0.9, 1.1, (rows, models))
    embedder = HashEmbedder()
    return OutcomeTable(
        queries=queries,
        models=tuple(f"m{j}" for j in range(models)),
        quality=quality,
        cost=cost,
        latency=latency,
        embeddings=embedder.embed([query.text for query in queries]),
        fingerprint=embedder.fingerprint,
    )


def _asked(table: OutcomeTable, rows: int = 40) -> list[Query]:
    vectors = table.embeddings
    assert vectors is not None  # noqa: S101 # the tables here have them
    return [
        replace(query, id=None, embedding=vectors[row], fingerprint=table.fingerprint)
        for row, query in enumerate(table.queries[:rows])
    ]


def _same(one: Estimate, other: Estimate, columns: Sequence[int] | None = None) -> None:
    for part in ("quality", "cost", "latency", "support", "quality_std"):
        expected: npt.NDArray[np.float64] = getattr(one, part)
        found: npt.NDArray[np.float64] = getattr(other, part)
        if columns is not None:
            expected = expected[:, list(columns)]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=part)


def _require(truth: object, message: str) -> None:
    if not truth:
        raise AssertionError(message)


def check_unfitted(make: Callable[[], Estimator]) -> None:
    """Before `fit`, `predict` raises `NotFittedError`."""
    try:
        make().predict(_asked(planted_table(60)))
    except NotFittedError:
        return
    raise AssertionError("predict before fit must raise NotFittedError")


def check_shapes_and_ranges(make: Callable[[], Estimator]) -> None:
    """`fit` returns the estimator; estimates have one row a query, one column a model, and values in range."""
    table = planted_table()
    estimator = make()
    _require(estimator.fit(table) is estimator, "fit must return the estimator itself")
    queries = _asked(table)
    estimate = estimator.predict(queries)
    _require(estimate.models == table.models, "columns must be the fitted table's models, in their order")
    for part in ("quality", "quality_std", "cost", "latency", "support"):
        values = getattr(estimate, part)
        _require(values.shape == (len(queries), len(table.models)), f"{part} must be [queries, models]")
        _require(values.dtype == np.float64, f"{part} must be float64")
        _require((values[np.isfinite(values)] >= 0).all(), f"{part} must not be negative")
    _require((estimate.quality <= 1).all(), "quality must not exceed 1")
    _require(estimate.supported.shape == (len(queries),) and estimate.supported.dtype == bool, "supported must be bool [queries]")
    _require(len(estimator.predict([])) == 0, "no queries must give no estimates")


def check_unobserved_model(make: Callable[[], Estimator]) -> None:
    """A model without a single outcome gets NaN, not 0; a missing cell does not count as 0."""
    table = planted_table()
    quality, cost, latency = (part.copy() for part in (table.quality, table.cost, table.latency))
    for part in (quality, cost, latency):
        part[:, 1] = np.nan
    estimate = make().fit(replace(table, quality=quality, cost=cost, latency=latency)).predict(_asked(table))
    for name, values in (("quality", estimate.quality), ("cost", estimate.cost), ("latency", estimate.latency)):
        _require(np.isnan(values[:, 1]).all(), f"{name} of a model without outcomes must be NaN")
        _require(np.isfinite(values[:, [0, 2]]).all(), f"{name} of the other models must be finite")
    rng = np.random.default_rng(1)
    sparse = np.where(rng.random(table.quality.shape) < 0.5, table.quality, np.nan)
    predicted = make().fit(replace(table, quality=sparse)).predict(_asked(table)).quality.mean()
    _require(abs(predicted - table.quality.mean()) < 0.1, "a missing cell must not count as a bad answer")


def check_deterministic(make: Callable[[], Estimator]) -> None:
    """Two fits on the same table predict the same; fitting again forgets what was learned before."""
    table, other = planted_table(), planted_table(seed=9)
    queries = _asked(table)
    once = make().fit(table).predict(queries)
    _same(once, make().fit(table).predict(queries))
    _same(once, make().fit(other).fit(table).predict(queries))


def check_copy(make: Callable[[], Estimator]) -> None:
    """A shallow copy that learns something else leaves the original as it was: `Router.clone` relies on it."""
    table = planted_table()
    queries = _asked(table)
    estimator = make().fit(table)
    before = estimator.predict(queries)
    copy(estimator).fit(planted_table(seed=9))
    _same(before, estimator.predict(queries))


def check_column_order(make: Callable[[], Estimator]) -> None:
    """Permuting the models permutes the estimates and changes nothing else."""
    table = planted_table()
    order = [2, 0, 1]
    moved = replace(
        table,
        models=tuple(table.models[j] for j in order),
        quality=table.quality[:, order],
        cost=table.cost[:, order],
        latency=table.latency[:, order],
    )
    queries = _asked(table)
    _same(make().fit(table).predict(queries), make().fit(moved).predict(queries), order)


def check_batch_is_single(make: Callable[[], Estimator]) -> None:
    """A batch predicts what its queries predict one by one."""
    table = planted_table()
    estimator = make().fit(table)
    queries = _asked(table, 10)
    batch = estimator.predict(queries)
    for row, query in enumerate(queries):
        single = estimator.predict([query])
        np.testing.assert_allclose(single.quality[0], batch.quality[row], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(single.cost[0], batch.cost[row], rtol=1e-4, atol=1e-6)


def check_state(make: Callable[[], Estimator]) -> None:
    """`from_state(*state())` predicts the same, and the state is plain JSON and arrays without Python objects."""
    table = planted_table()
    estimator = make().fit(table)
    config, arrays = estimator.state()
    config = json.loads(json.dumps(config, allow_nan=False))
    _require(all(array.dtype.kind in "fiub" for array in arrays.values()), "arrays must hold numbers only")
    again = type(estimator).from_state(config, arrays)
    queries = _asked(table)
    one, other = estimator.predict(queries), again.predict(queries)
    np.testing.assert_array_equal(one.quality, other.quality)
    np.testing.assert_array_equal(one.cost, other.cost)
    np.testing.assert_array_equal(one.supported, other.supported)


def check_out_of_fold(make: Callable[[], Estimator]) -> None:
    """A row's out-of-fold prediction does not move when its own outcome does."""
    table = planted_table(200)
    estimator = make().fit(table)
    rows = np.arange(0, 200, 10)
    before = estimator.cross_predict(table, rows)
    _require(before.quality.shape == (len(rows), len(table.models)), "cross_predict must give one row for each asked row")
    for place, row in enumerate(rows.tolist()[:5]):
        quality = table.quality.copy()
        quality[row] = 1.0 - quality[row]
        changed = replace(table, quality=quality)
        after = make().fit(changed).cross_predict(changed, rows)
        # What the constants were tuned to may move a little with any row; the row's own answer would move its estimate a lot.
        moved = np.abs(after.quality[place] - before.quality[place]).max()
        _require(moved < 0.02, f"cross_predict must not see a row's own outcome: row {row} moved by {moved:.3f}")


def estimator_checks(make: Callable[[], Estimator]) -> list[Check]:
    """The contract of `Estimator`, as functions without arguments that raise `AssertionError`.

    Args:
        make: Gives a new, unfitted estimator.
    """
    checks = (
        check_unfitted,
        check_shapes_and_ranges,
        check_unobserved_model,
        check_deterministic,
        check_copy,
        check_column_order,
        check_batch_is_single,
        check_state,
        check_out_of_fold,
    )
    return [update_wrapper(partial(check, make), check) for check in checks]


def _estimate(quality: list[list[float]], cost: list[list[float]]) -> Estimate:
    values = np.array(quality)
    return Estimate(
        models=tuple(f"m{j}" for j in range(values.shape[1])),
        quality=values,
        quality_std=np.full(values.shape, 0.1),
        cost=np.array(cost),
        latency=np.full(values.shape, 1.0),
        support=np.full(values.shape, 50.0),
        similarity=np.ones(len(values)),
        supported=np.ones(len(values), bool),
    )


def check_dominated(make: Callable[[], Policy]) -> None:
    """A model that is worse, dearer and no faster is never preferred."""
    utility = make().utilities(_estimate([[0.9, 0.5]], [[0.001, 0.002]]))
    _require(utility.shape == (1, 2) and utility[0, 0] > utility[0, 1], "a dominated model must have the lower utility")


def check_unknown_is_unranked(make: Callable[[], Policy]) -> None:
    """Unknown quality is NaN in the utilities, not 0."""
    utility = make().utilities(_estimate([[0.9, math.nan]], [[0.001, 0.002]]))
    _require(np.isnan(utility[0, 1]) and np.isfinite(utility[0, 0]), "a model of unknown quality must not be ranked")


def check_policy_state(make: Callable[[], Policy]) -> None:
    """`from_state(state())` ranks the same."""
    policy = make()
    again = type(policy).from_state(json.loads(json.dumps(policy.state(), allow_nan=False)))
    estimate = _estimate([[0.9, 0.5, 0.7]], [[0.003, 0.001, 0.002]])
    np.testing.assert_array_equal(policy.utilities(estimate), again.utilities(estimate))


def check_pure(make: Callable[[], Policy]) -> None:
    """Ranking changes neither the estimate nor the policy."""
    policy, estimate = make(), _estimate([[0.9, 0.5]], [[0.001, 0.002]])
    before = estimate.quality.copy(), estimate.cost.copy()
    first = policy.utilities(estimate).copy()
    np.testing.assert_array_equal(first, policy.utilities(estimate))
    np.testing.assert_array_equal(before[0], estimate.quality)
    np.testing.assert_array_equal(before[1], estimate.cost)


def policy_checks(make: Callable[[], Policy]) -> list[Check]:
    """The contract of `Policy`, as functions without arguments that raise `AssertionError`.

    Args:
        make: Gives a policy that is ready to rank (calibrated, if it needs to be).
    """
    checks = (check_dominated, check_unknown_is_unranked, check_policy_state, check_pure)
    return [update_wrapper(partial(check, make), check) for check in checks]
