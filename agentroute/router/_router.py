"""The router."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder, normalise
from agentroute.errors import (
    ArtefactError,
    ConfigError,
    EmbedderMismatchError,
    LowSupportWarning,
    NotFittedError,
)
from agentroute.estimators import ESTIMATORS, Estimator, IncrementalEstimator, KNNEstimator
from agentroute.estimators._base import State
from agentroute.outcomes import OutcomeLog, OutcomeTable
from agentroute.policies import POLICIES, CalibratedPolicy, Policy, UtilityPolicy, check_needs, decide
from agentroute.pool import ModelPool
from agentroute.router._aligned import aligned
from agentroute.router._artefact import read_artefact, write_artefact
from agentroute.router._explanation import Explanation, Neighbour
from agentroute.router._state import card_from, card_state, check_vectors
from agentroute.types import Candidate, Decision, Estimate, ModelCard, Paradigm, Query, Vectors

__all__ = ["Router"]

_CALIBRATION_ROWS = 5000


class Router:
    """Picks a model for a query from what the outcome log has taught.

    With no log, with too thin a log, or for a query unlike all that was logged, it gives the declared default and says so.

    Args:
        pool: The models to choose from: a `ModelPool`, or cards, or ids.
        embedder: Turns text into vectors; `None` = the static table that ships with agentroute. A function is not enough:
            `CallableEmbedder` gives it the name by which vectors are told apart.
        estimator: Predicts quality, cost and latency; `None` = `KNNEstimator()`.
        policy: Ranks models by them; `None` = `UtilityPolicy()`, the best expected quality.
        default: Who answers when too little is known; `None` = the model of the best mean quality once enough is logged,
            before that the first of the pool.

    Raises:
        UnknownModelError: The pool does not hold the default.

    >>> router = Router(["small", "large"], default="large")
    >>> decision = router.route("What is 2 + 2?")
    >>> decision.model, decision.by
    ('large', 'default')
    """

    def __init__(
        self,
        pool: ModelPool | Iterable[ModelCard | str],
        *,
        embedder: Embedder | None = None,
        estimator: Estimator | None = None,
        policy: Policy | None = None,
        default: str | None = None,
    ) -> None:
        self.pool = pool if isinstance(pool, ModelPool) else ModelPool(pool)
        self.embedder = as_embedder(embedder)
        self.estimator: Estimator = estimator or KNNEstimator()
        self.policy: Policy = policy or UtilityPolicy()
        if default is not None:
            self.pool.index(default)
        self._declared = default
        self._best: str | None = None
        self._fitted = False

    @property
    def fitted(self) -> bool:
        """Whether there is anything learned to decide by."""
        return self._fitted

    @property
    def default(self) -> str:
        """Who answers when nothing is known."""
        return self._declared or self._best or self.pool.ids[0]

    @property
    def paradigm(self) -> Paradigm:
        """When the router decides, by what and how."""
        return self._paradigm(self.policy)

    def _paradigm(self, policy: Policy) -> Paradigm:
        return Paradigm(when="pre-generation", what=(*self.estimator.what, *policy.what), how=policy.how)

    def fit(self, data: OutcomeTable | OutcomeLog, /) -> Self:
        """Learns from logged outcomes, and calibrates the policy on them. After an error the router is as it was.

        Args:
            data: A table, or a log that is read into one.

        Raises:
            UnknownModelError: The data hold a model that the pool does not.
            EmbedderMismatchError: The data hold vectors of another embedder, and no text to embed again.
            PriceUnknownError: The policy weighs costs, and a scored model has none.
            DataError: The same for latency; or there are no outcomes.
        """
        table = self._table(data, self.pool)
        scores = np.isfinite(table.quality).sum(axis=0)
        enough = getattr(self.estimator, "min_rows", 0)
        # A part without a __dict__ is a slotted value, which learns nothing that would have to be undone.
        before = [(vars(part), dict(vars(part))) for part in (self.estimator, self.policy) if hasattr(part, "__dict__")]
        try:
            self.estimator.fit(table)
            self._check_and_calibrate(table, scores)
        except Exception:
            for learned, state in before:
                learned.clear()
                learned.update(state)
            raise
        means = np.nansum(table.quality, axis=0) / np.maximum(scores, 1)
        ranked = np.where(scores >= max(enough, 1), means, -1.0)
        self._best = self.pool.ids[int(np.argmax(ranked))] if ranked.max() >= 0 else None
        self._fitted = True
        if scores.max() < enough:
            warnings.warn(
                f"the log holds at most {scores.max()} scores of a model: {self.default!r} answers until there are {enough}",
                LowSupportWarning,
                stacklevel=2,
            )
        return self

    def _check_and_calibrate(self, table: OutcomeTable, scores: npt.NDArray[np.int64]) -> None:
        """Finds out now, and not at the first call, that the policy weighs what nobody logged."""
        known = [np.where(np.isfinite(part).any(axis=0), 1.0, np.nan).tolist() for part in (table.cost, table.latency)]
        enough = max(getattr(self.estimator, "min_rows", 0), 1)
        check_needs(self.policy, table.models, np.where(scores >= enough, 1.0, np.nan).tolist(), *known)
        if isinstance(self.policy, CalibratedPolicy):
            rows = np.sort(np.random.default_rng(0).permutation(len(table))[:_CALIBRATION_ROWS])
            self.policy.calibrate(self.estimator.cross_predict(table, rows), table.quality[rows], table.cost[rows])

    def clone(self, *, pool: ModelPool | None = None, policy: Policy | None = None) -> Router:
        """An unfitted router with the same settings.

        Args:
            pool: Its models; `None` = the same. A default that it lacks is not declared.
            policy: Its policy; `None` = the same.
        """
        chosen = self.pool if pool is None else pool
        # What is learned is bound anew by fit and never changed in place, so that shallow copies do not meet.
        return type(self)(
            chosen,
            embedder=self.embedder,
            estimator=copy(self.estimator),
            policy=copy(policy or self.policy),
            default=self._declared if self._declared in chosen.ids else None,
        )

    def partial_fit(self, data: OutcomeTable | OutcomeLog, /) -> Self:
        """Adds rows to a fitted router; constants and policy stay as they are until the next `fit`.

        Raises:
            NotFittedError: There is nothing to add to.
            ConfigError: The estimator cannot learn in steps.
        """
        if not self.fitted:
            msg = "partial_fit adds to a fitted router: call fit first"
            raise NotFittedError(msg)
        if not isinstance(self.estimator, IncrementalEstimator):
            msg = f"{type(self.estimator).__name__} cannot learn in steps: call fit on the whole log"
            raise ConfigError(msg)
        self.estimator.partial_fit(self._table(data, self.pool))
        return self

    def add_model(self, card: ModelCard, probes: OutcomeTable | OutcomeLog) -> Self:
        """Lets a new model join: a few hundred probe outcomes make it a candidate, without a rebuild.

        Args:
            card: The new model.
            probes: Its outcomes, on queries of the log or on new ones.
        """
        pool = ModelPool([*self.pool, card])
        if not self.fitted or not isinstance(self.estimator, IncrementalEstimator):
            msg = "add_model needs a fitted router whose estimator learns in steps: call fit on a log of all models"
            raise NotFittedError(msg)
        self.estimator.partial_fit(self._table(probes, pool))
        # Last, so that a decision made meanwhile never meets a model that the estimator does not know.
        self.pool = pool
        return self

    def embed(self, query: Query | str, /) -> Query:
        """The same query with its vector, computed once; as it is when the estimator needs none."""
        query = _query(query)
        return self._embed_all([query])[0]

    def route(self, query: Query | str, /, *, policy: Policy | None = None) -> Decision:
        """The model that should answer, and why.

        Args:
            query: What is asked.
            policy: Ranks this one query instead of the router's own policy.

        Raises:
            NoEligibleModelError: The query's needs rule out every model.
            PriceUnknownError: The policy weighs costs, and an eligible model has none.
        """
        query = _query(query)
        eligible = self.pool.eligible(query)
        if not self.fitted:
            return self._default(eligible, "nothing is learned yet", None)
        return self._decide([self.embed(query)], [eligible], policy or self.policy)[0][0]

    def route_many(self, queries: Iterable[Query | str], /, *, policy: Policy | None = None) -> list[Decision]:
        """`route` for many queries at once, on the fast path for batches."""
        asked = [_query(query) for query in queries]
        eligible = [self.pool.eligible(query) for query in asked]
        if not self.fitted:
            return [self._default(columns, "nothing is learned yet", None) for columns in eligible]
        return self._decide(self._embed_all(asked), eligible, policy or self.policy)[0]

    def decide_many(self, queries: Iterable[Query | str], /, *, policy: Policy | None = None) -> tuple[list[Decision], Estimate]:
        """`route_many` of a fitted router, with what was expected of every query: columns in the pool's order.

        Raises:
            NotFittedError: There is nothing learned to expect by.
        """
        if not self.fitted:
            msg = "this router is not fitted, and expects nothing yet: call fit first"
            raise NotFittedError(msg)
        asked = [_query(query) for query in queries]
        return self._decide(self._embed_all(asked), [self.pool.eligible(query) for query in asked], policy or self.policy)

    def explain(self, query: Query | str, /, *, neighbours: int = 5) -> Explanation:
        """The decision for a query, with the logged queries that it rests on."""
        query = self.embed(query)
        if not self.fitted:
            return Explanation(decision=self.route(query), similarity=None, supported=False, neighbours=())
        decisions, estimate = self._decide([query], [self.pool.eligible(query)], self.policy)
        near: list[Neighbour] = []
        knn = self.estimator
        if isinstance(knn, KNNEstimator) and estimate.neighbours is not None and query.embedding is not None:
            for row in estimate.neighbours[0, :neighbours].tolist():
                vector, quality, cost = knn.logged(row)
                near.append(
                    Neighbour(query=knn.queries_[row], similarity=float(vector @ query.embedding), quality=quality, cost=cost)
                )
        similarity = float(estimate.similarity[0])
        return Explanation(
            decision=decisions[0],
            similarity=None if np.isnan(similarity) else similarity,
            supported=bool(estimate.supported[0]),
            neighbours=tuple(near),
        )

    def _decide(
        self, queries: Sequence[Query], eligible: Sequence[tuple[int, ...]], policy: Policy
    ) -> tuple[list[Decision], Estimate]:
        estimate = self.estimator.predict(queries)
        made = decide(policy, estimate, eligible, self._paradigm(policy))
        for row, decision in enumerate(made):
            if not estimate.supported[row]:
                made[row] = self._default(eligible[row], _strange(estimate, row), decision)
            elif decision.candidates[0].utility is None:
                made[row] = self._default(eligible[row], "the log is too thin", decision)
        return made, estimate

    def _default(self, eligible: tuple[int, ...], why: str, ranked: Decision | None) -> Decision:
        """The declared default first, the others in the order that is known; the first eligible one where it may not answer."""
        paradigm = Paradigm(when="pre-generation", what=(), how="rule")
        others = ranked.candidates if ranked else tuple(Candidate(model=self.pool.ids[j]) for j in eligible)
        first = [one for one in others if one.model == self.default]
        candidates = (*first, *(one for one in others if one.model != self.default))
        model = candidates[0].model
        reason = f"{why}: the default {self.default} answers"
        if not first:
            reason = f"{why}, and the default {self.default} may not answer this query: {model} does"
        return Decision(model=model, candidates=candidates, reason=reason, by="default", paradigm=paradigm)

    def _embedded(self, query: Query) -> bool:
        if query.embedding is None:
            return False
        return query.fingerprint is self.embedder.fingerprint or query.fingerprint == self.embedder.fingerprint

    def _embed_all(self, queries: list[Query]) -> list[Query]:
        bare = [row for row, query in enumerate(queries) if not self._embedded(query)] if self.estimator.uses_embeddings else []
        if not bare:
            return queries
        for row in bare:
            if queries[row].embedding is not None and not queries[row].text:
                raise EmbedderMismatchError(queries[row].fingerprint, self.embedder.fingerprint)
        made = list(queries)
        for row, vector in zip(bare, self._vectors([queries[row].text for row in bare]), strict=True):
            made[row] = replace(queries[row], embedding=vector, fingerprint=self.embedder.fingerprint)
        return made

    def _vectors(self, texts: Sequence[str], /) -> Vectors:
        """The embedder's vectors as unit rows, whoever wrote the embedder.

        Raises:
            ConfigError: They are not float rows of the declared dimension.
        """
        vectors = normalise(self.embedder.embed(texts))
        expected = (len(texts), self.embedder.fingerprint.dimension)
        if vectors.shape != expected:
            raise ConfigError(f"the embedder {self.embedder.fingerprint} gave an array {vectors.shape}, not {expected}")
        return vectors

    def table(self, data: OutcomeTable | OutcomeLog, /) -> OutcomeTable:
        """What `fit` learns from: the data with the pool's columns in the pool's order, and with this embedder's vectors.

        Raises:
            UnknownModelError: The data hold a model that the pool does not.
            EmbedderMismatchError: The data hold vectors of another embedder, and no text to embed again.
        """
        return self._table(data, self.pool)

    def _table(self, data: OutcomeTable | OutcomeLog, pool: ModelPool) -> OutcomeTable:
        table = aligned(data, pool, vectors=self.estimator.uses_embeddings)
        return table.embedded(self._vectors, self.embedder.fingerprint) if self.estimator.uses_embeddings else table

    def state(self) -> State:
        """What `save` writes: a JSON object and named arrays; no prompt text, unless the estimator keeps prompts.

        Raises:
            NotFittedError: There is nothing to save.
            ConfigError: Estimator or policy are of a kind that `load` could not make again.
        """
        if not self.fitted:
            msg = "save needs a fitted router: call fit first"
            raise NotFittedError(msg)
        for part, known in ((self.estimator, ESTIMATORS), (self.policy, POLICIES)):
            if type(part) is not known.get(part.kind):
                msg = f"{type(part).__name__} is not one of agentroute's own ({', '.join(known)}): save and load it yourself"
                raise ConfigError(msg)
        options, arrays = self.estimator.state()
        print_ = self.embedder.fingerprint
        config = {
            "pool": [card_state(card) for card in self.pool],
            "default": self._declared,
            "best": self._best,
            "embedder": {"name": print_.name, "revision": print_.revision, "dimension": print_.dimension}
            if self.estimator.uses_embeddings
            else None,
            "estimator": {"kind": self.estimator.kind, **options},
            "policy": {"kind": self.policy.kind, **self.policy.state()},
        }
        return config, arrays

    @classmethod
    def from_state(
        cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /, *, embedder: Embedder | None = None
    ) -> Self:
        """The router that `state` described.

        Raises:
            EmbedderMismatchError: It was fitted with another embedder.
        """
        found = as_embedder(embedder)
        check_vectors(config["embedder"], found, arrays)
        made = cls(
            [card_from(state) for state in config["pool"]],
            embedder=found,
            estimator=ESTIMATORS[config["estimator"]["kind"]].from_state(config["estimator"], arrays),
            policy=POLICIES[config["policy"]["kind"]].from_state(config["policy"]),
            default=config["default"],
        )
        if config["best"] is not None:
            made.pool.index(config["best"])
        made._best, made._fitted = config["best"], True
        return made

    def save(self, folder: str | Path, /) -> None:
        """Writes the router into a folder that `load` reads; no prompt text, unless the estimator keeps prompts.

        Raises:
            NotFittedError: There is nothing to save.
            ConfigError: Estimator or policy are of a kind that `load` could not make again.
        """
        write_artefact(folder, *self.state())

    @classmethod
    def load(cls, folder: str | Path, /, *, embedder: Embedder | None = None) -> Self:
        """The router that was saved; it decides the same.

        Args:
            folder: What `save` wrote.
            embedder: The embedder of the fit; `None` = the one that ships with agentroute.

        Raises:
            ArtefactError: The folder is damaged, foreign, or from a later version.
            EmbedderMismatchError: The router was fitted with another embedder.
        """
        config, arrays = read_artefact(folder)
        try:
            return cls.from_state(config, arrays, embedder=embedder)
        except EmbedderMismatchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(folder, f"holds something that this release cannot use ({error}); fit and save again") from error

    def __repr__(self) -> str:
        """Pool, policy and whether it is fitted; never vectors or prompts."""
        state = "fitted" if self.fitted else "not fitted"
        return f"Router({list(self.pool.ids)!r}, policy={self.policy!r}, default={self.default!r}, {state})"


def _query(asked: Query | str) -> Query:
    # Whatever else comes without a type checker is refused by Query itself, in words.
    return asked if isinstance(asked, Query) else Query(text=asked)


def _strange(estimate: Estimate, row: int) -> str:
    return f"nothing like it in the log (similarity {float(estimate.similarity[row]):.2f})"
