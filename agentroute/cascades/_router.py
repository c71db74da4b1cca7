"""The router of a cascade: what is expected before an answer, what an answer teaches, and whom to call next."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.cascades._answers import AnswerTable, Same, same_answer
from agentroute.cascades._planner import CascadeRouting, draw_of
from agentroute.cascades._plans import Planned, Straight
from agentroute.cascades._posthoc import PostHocEstimator
from agentroute.cascades._rational import RationalThresholds
from agentroute.cascades._regressions import PostHocStates
from agentroute.cascades._replay import CascadeReplay, replay
from agentroute.cascades._threshold import ThresholdCascade
from agentroute.embedders import Embedder
from agentroute.errors import ArtefactError, ConfigError, EmbedderMismatchError, NotFittedError, PriceUnknownWarning
from agentroute.pool import ModelPool
from agentroute.router import Router, read_artefact, write_artefact
from agentroute.types import Estimate, ModelCard, Paradigm, Query

__all__ = ["CascadePolicy", "CascadeRouter"]

CascadePolicy: TypeAlias = CascadeRouting | ThresholdCascade | RationalThresholds

_POLICIES: dict[str, type[CascadePolicy]] = {
    policy.kind: policy for policy in (CascadeRouting, ThresholdCascade, RationalThresholds)
}
# What is asked for with these may break at its end.
_WHOLE = frozenset({"tools", "structured_output"})


class CascadeRouter:
    """Plans, for each query, which models to call, in which order, and when an answer is good enough.

    It joins three parts: a `Router`, whose estimator says what to expect before anybody has answered; a `PostHocEstimator`, which
    says it anew after each answer; and a policy, which weighs what a further call would gain against what it costs. With
    no log, or for a query unlike all that was logged, the router's default answers. Where the log says that looking at answers
    gains nothing over plain routing, it routes, and no answer is scored (`looks`).

    Args:
        router: A router, or what one is made of: a pool, cards or ids. Its policy is not asked.
        policy: Decides on further calls; `None` = `CascadeRouting()`, the best expected quality whatever it costs.
        posthoc: Estimates qualities from answers; `None` = `PostHocEstimator()`.
        same: Whether two answers say the same, as the log was compared; `None` = `same_answer`.

    ```python
    answers = AnswerTable.from_jsonl("answers.jsonl", signals=["logprob"])
    cascade = CascadeRouter(["small", "large"], policy=CascadeRouting(budget=0.002)).fit(answers)
    cascade.save("cascade/")
    ```
    """

    def __init__(
        self,
        router: Router | ModelPool | Iterable[ModelCard | str],
        *,
        policy: CascadePolicy | None = None,
        posthoc: PostHocEstimator | None = None,
        same: Same | None = None,
    ) -> None:
        self.router = router if isinstance(router, Router) else Router(router)
        self.policy: CascadePolicy = CascadeRouting() if policy is None else policy
        self.posthoc = PostHocEstimator() if posthoc is None else posthoc
        self.same: Same = same_answer if same is None else same
        self._compares = False
        self._fitted = False
        self._instead: CascadeRouting | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is anything learned to plan by."""
        return self._fitted

    @property
    def pool(self) -> ModelPool:
        """The models."""
        return self.router.pool

    @property
    def default(self) -> str:
        """Who answers when nothing is known."""
        return self.router.default

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals that it looks at: the judge's `Score.signals` must have them, or they count as missing."""
        return self.posthoc.signals_ if self._fitted and self.looks else ()

    @property
    def paradigm(self) -> Paradigm:
        """When the cascade decides, by what and how."""
        if not self.looks:
            return Paradigm(when="pre-generation", what=(*self.router.estimator.what, "cost"), how=self.deciding.how)
        what = (*self.router.estimator.what, "answer", *self.signals, *(("agreement",) if self._compares else ()), "cost")
        return Paradigm(when="multi-stage", what=what, how=self.policy.how)

    def fit(self, answers: AnswerTable, /) -> Self:
        """Learns from a log in which every model has answered the same queries, or many of them.

        The estimates from which the policy is tuned are made without the rows that they are for.

        Args:
            answers: The logged answers.

        Raises:
            UnknownModelError: The log holds a model that the pool does not.
            ConfigError: The pool has a model of which the log holds no answer, or the budget cannot be kept.
            PriceUnknownError: A model has no known cost.
        """
        if not isinstance(answers, AnswerTable):
            raise ConfigError("a cascade is fitted on answers, not on outcomes alone: read the log with AnswerTable.from_jsonl")
        missing = [model for model in self.pool.ids if model not in answers.models]
        if missing:
            raise ConfigError(
                f"the log holds no answer of {', '.join(map(repr, missing))}: leave it out of the pool, or log some"
            )
        answers = self._aligned(answers)
        # Copies are fitted: after an error this cascade plans as it did before.
        router = self.router.clone().fit(answers.table)
        estimate = router.estimator.cross_predict(answers.table, np.arange(len(answers)))
        policy = copy(self.policy)
        # What a plan expects to pay: nobody scores the only answer there is, nor as a rule that of the dearest model.
        planned = answers if isinstance(policy, CascadeRouting) and policy.check_last else answers.last_unscored()
        if _one_call(policy):
            planned = replace(answers, score_cost=np.zeros_like(answers.score_cost))
        posthoc = copy(self.posthoc).fit(planned, estimate)
        instead = _tuned(policy, posthoc, answers.select(posthoc.models_), posthoc.states(answers, estimate))
        self.router, self.posthoc, self.policy, self._instead = router, posthoc, policy, instead
        self._compares = answers.agreement is not None
        self._fitted = True
        return self

    @property
    def check_last(self) -> bool:
        """Whether the last possible model's answer is looked at, too, as the policy says."""
        return isinstance(self.deciding, CascadeRouting) and self.deciding.check_last

    @property
    def looks(self) -> bool:
        """Whether answers are looked at, and so scored: not where the log says that it gains nothing over routing."""
        return self._instead is None and not _one_call(self.policy)

    @property
    def deciding(self) -> CascadePolicy:
        """The policy that decides: the one given, or plain routing where looking at answers does not pay."""
        return self.policy if self._instead is None else self._instead

    def replay(self, answers: AnswerTable, /) -> CascadeReplay:
        """What the cascade would have done on other answers, such as held-out ones, and what it would have cost.

        Scoring is paid for where answers are looked at: not the last possible one, unless `check_last`.

        Args:
            answers: Answers of all models of the pool; only those of models that would have been called are looked at.

        Raises:
            NotFittedError: Nothing is learned yet.
            UnknownModelError: The answers lack a model of the pool.
        """
        aligned, estimate = self.expected(answers)
        states = self.posthoc.states(aligned, estimate)
        seen = aligned.select(self.posthoc.models_)
        table, score_cost = seen.table, seen.score_cost if self.looks else None
        if not self.looks:
            states = replace(states, cost=states.cost - self.posthoc.score_cost_)
        draws = np.array([draw_of(query.key()) for query in table.queries])
        done = replay(self.deciding, states, table.quality, table.cost, table.latency, score_cost=score_cost, draws=draws)
        strange = ~estimate.supported
        return done.with_model(strange, self.posthoc.models_.index(self.default), table) if strange.any() else done

    def _aligned(self, answers: AnswerTable) -> AnswerTable:
        """The answers in the pool's columns, with vectors; without queries that have neither a text nor a vector."""
        selected = answers.select(self.pool.ids)
        # Rows are numbered in place of their times, so that those that are left out can be told.
        numbered = replace(selected.table, at=np.arange(len(selected), dtype=np.float64))
        table = self.router.table(numbered)
        rows = table.at.astype(np.int64)
        return _priced(replace(selected.take(rows), table=replace(table, at=selected.table.at[rows])))

    def expected(self, answers: AnswerTable, /) -> tuple[AnswerTable, Estimate]:
        """Other answers, such as held-out ones, in the pool's columns, and what is expected before anybody has answered.

        `posthoc.states` of both is what a policy is replayed on.

        Raises:
            NotFittedError: There is nothing to expect by.
            UnknownModelError: The answers lack a model of the pool.
        """
        self._check_fitted()
        aligned = self._aligned(answers)
        table = aligned.table
        queries: list[Query] = list(table.queries)
        if table.embeddings is not None:
            pairs = zip(queries, table.embeddings, strict=True)
            queries = [replace(query, embedding=vector, fingerprint=table.fingerprint) for query, vector in pairs]
        return aligned, self.router.estimator.predict(queries)

    def embed(self, query: Query | str, /) -> Query:
        """The same query with its vector, computed once; as it is when the estimator needs none."""
        return self.router.embed(query)

    def plan(self, query: Query | str, /) -> Planned | Straight:
        """The plan for one query.

        Args:
            query: What is asked.

        Raises:
            NoEligibleModelError: The query's needs rule out every model.
        """
        asked = query if isinstance(query, Query) else Query(text=query)
        eligible = [self.pool.ids[j] for j in self.pool.eligible(asked)]
        whole = bool(asked.needs & _WHOLE)
        if not self._fitted:
            return self._straight(eligible, "nothing is learned yet", whole=whole)
        estimate = self.router.estimator.predict([self.router.embed(asked)])
        if not estimate.supported[0]:
            return self._straight(eligible, "nothing like it is in the log", whole=whole)
        columns = [self.pool.index(model) for model in self.posthoc.models_]
        cost = self.posthoc.cost(estimate)[0] - (0.0 if self.looks else self.posthoc.score_cost_)
        latency = estimate.latency[0, columns]
        return Planned(
            posthoc=self.posthoc,
            policy=self.deciding,
            quality=estimate.quality[0, columns],
            cost=cost,
            latency=None if np.isnan(latency).any() else latency,
            eligible=frozenset(eligible),
            same=self.same if self._compares else None,
            check_last=self.check_last,
            whole=whole,
            draw=draw_of(asked.key()),
        )

    def _straight(self, eligible: list[str], why: str, *, whole: bool) -> Straight:
        order = sorted(eligible, key=lambda model: model != self.default)
        return Straight(order, f"{why}: the default {self.default} answers", whole=whole)

    def _check_fitted(self) -> None:
        if not self._fitted:
            raise NotFittedError("this CascadeRouter is not fitted: call fit(answers) first")

    def save(self, folder: str | Path, /) -> None:
        """Writes all parts into one folder, which `load` reads; no prompt text, unless the estimator keeps prompts.

        Raises:
            NotFittedError: There is nothing to save.
            ConfigError: `same` is a function of the caller's, which cannot be saved, or a part is of a kind that `load` does
                not know.
        """
        self._check_fitted()
        if self._compares and self.same is not same_answer:
            raise ConfigError("same= is a function of your own, which cannot be saved: pickle-free files hold no code")
        config: dict[str, Any] = {"compares": self._compares}
        arrays: dict[str, npt.NDArray[Any]] = {}
        states = {"router": self.router.state(), "posthoc": self.posthoc.state(), "policy": self.policy.state()}
        if self._instead is not None:
            states["instead"] = self._instead.state()
        for part, (state, parts) in states.items():
            config[part] = state
            # The router's graph keeps its name: it goes into a file of its own.
            arrays |= {name if name == "graph" else f"{part}.{name}": array for name, array in parts.items()}
        config["policy"] = {"kind": self.policy.kind, **config["policy"]}
        write_artefact(folder, config, arrays, kind="cascade")

    @classmethod
    def load(cls, folder: str | Path, /, *, embedder: Embedder | None = None, same: Same | None = None) -> Self:
        """The cascade that was saved; it plans the same.

        Args:
            folder: What `save` wrote.
            embedder: The embedder of the fit; `None` = the one that ships with agentroute.
            same: Whether two answers say the same; `None` = `same_answer`.

        Raises:
            ArtefactError: The folder is damaged, foreign, or from a later version.
            EmbedderMismatchError: It was fitted with another embedder.
        """
        config, arrays = read_artefact(folder, kind="cascade")
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {"router": {}, "posthoc": {}, "policy": {}, "instead": {}}
        try:
            for name, array in arrays.items():
                part, _, rest = name.partition(".")
                parts["router" if name == "graph" else part][rest or name] = array
            made = cls(
                Router.from_state(config["router"], parts["router"], embedder=embedder),
                posthoc=PostHocEstimator.from_state(config["posthoc"], parts["posthoc"]),
                policy=_POLICIES[config["policy"]["kind"]].from_state(config["policy"], parts["policy"]),
                same=same,
            )
            if "instead" in config:
                made._instead = CascadeRouting.from_state(config["instead"], parts["instead"])
            made._compares, made._fitted = bool(config["compares"]), True
        except EmbedderMismatchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(folder, f"holds something that this release cannot use ({error}); fit and save again") from error
        return made

    def __repr__(self) -> str:
        """Pool, policy and whether it is fitted; never vectors or prompts."""
        state = "fitted" if self._fitted else "not fitted"
        return f"CascadeRouter({list(self.pool.ids)!r}, policy={self.policy!r}, default={self.default!r}, {state})"


def _one_call(policy: CascadePolicy) -> bool:
    """Whether it never calls a second model, whatever the first one says."""
    return isinstance(policy, CascadeRouting) and policy.calls == 1


def _tuned(policy: CascadePolicy, posthoc: PostHocEstimator, answers: AnswerTable, live: PostHocStates) -> CascadeRouting | None:
    """Fits the policy, and plain routing beside it; the latter is given where looking at answers does not pay.

    Looking pays when it gains more than plain routing does by at least one standard error, on estimates made without the
    rows themselves. Otherwise no answer is scored: what it would cost is saved.
    """
    states, quality, cost, score = posthoc.fitted_states(), answers.table.quality, answers.table.cost, answers.score_cost
    if not isinstance(policy, CascadeRouting) or policy.ordered or not policy.climb:
        policy.fit(states, quality, cost, score_cost=None if _one_call(policy) else score, live=live)
        return None
    routing = policy.restricted(climb=False)
    unscored, unscored_live = (replace(one, cost=one.cost - posthoc.score_cost_) for one in (states, live))
    routing.fit(unscored, quality, cost, live=unscored_live)
    try:
        policy.fit(states, quality, cost, score_cost=score, live=live)
    except ConfigError:
        # Scoring alone spends the budget.
        return routing
    price = 1.0 / policy.willingness_to_pay
    looking, plain = replay(policy, states, quality, cost, score_cost=score), replay(routing, unscored, quality, cost)
    gain = (looking.quality - price * looking.cost) - (plain.quality - price * plain.cost)
    gain = gain[np.isfinite(gain)]
    if len(gain) < 2 or gain.mean() <= gain.std(ddof=1) / math.sqrt(len(gain)):
        return routing
    return None


def _priced(answers: AnswerTable) -> AnswerTable:
    """The answers, with each model's mean where nobody knows what scoring an answer cost."""
    known = np.isfinite(answers.score_cost)
    if known.all():
        return answers
    unknown = [model for j, model in enumerate(answers.models) if not known[:, j].any()]
    if unknown:
        warnings.warn(
            f"nobody knows what scoring answers of {', '.join(unknown)} costs: it counts as free; log score_cost",
            PriceUnknownWarning,
            stacklevel=4,
        )
    mean = np.where(known, answers.score_cost, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return replace(answers, score_cost=np.where(known, answers.score_cost, mean))
