"""What can be evaluated: a router, a policy, or any function that names models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import StaticEmbedder
from agentroute.errors import ConfigError, DataError, NotFittedError, UnknownModelError
from agentroute.estimators import IncrementalEstimator
from agentroute.evaluation._splits import Fold
from agentroute.outcomes import OutcomeTable
from agentroute.policies import CalibratedPolicy, Policy
from agentroute.pool import ModelPool
from agentroute.router import Router
from agentroute.types import Decision, Estimate, Query

__all__ = ["Chooser", "Contender", "Played", "asked", "contender"]

Floats: TypeAlias = npt.NDArray[np.float64]
Chooser: TypeAlias = Callable[[Sequence[Query]], Sequence[str]]
"""Queries → the id of the model that should answer each of them."""

ROUTED = "routed"
WITHOUT, WHOLE = "routed, without the new model", "routed, with all its outcomes"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """What was chosen on one fold.

    Attributes:
        shares: Name → float64 [n, m], the chance of each model.
        estimate: What was expected, columns as in the table; `None` = nothing.
        fallback: The column of the default; -1 = there is none.
    """

    shares: Mapping[str, Floats]
    estimate: Estimate | None = None
    fallback: int = -1


class Contender(Protocol):
    """Something that chooses models for the queries of a fold."""

    @property
    def grows(self) -> bool:
        """Whether it can take in a new model by its probes."""

    @property
    def learns(self) -> bool:
        """Whether it is learned anew on each training part."""

    def prepare(self, table: OutcomeTable, /) -> OutcomeTable:
        """The table with the columns and vectors that it needs."""

    def ready(self, reference: OutcomeTable | None, /) -> None:
        """Called where nothing is to be learned from folds: what is not fitted is fitted on the reference."""

    def play(self, fold: Fold, test: OutcomeTable, /, *, learn: bool) -> Played:
        """Its choices for the queries of `test`, the complete part of `fold.test`.

        Args:
            fold: What may be learned from.
            test: What is chosen for.
            learn: Whether to learn from `fold.train` first.
        """


def asked(table: OutcomeTable) -> list[Query]:
    """The queries with their vectors: a log without prompts has these to route by, and one with prompts is not embedded again."""
    if table.embeddings is None:
        return list(table.queries)
    return [replace(q, embedding=v, fingerprint=table.fingerprint) for q, v in zip(table.queries, table.embeddings, strict=True)]


def contender(chooser: Router | Policy | Chooser, table: OutcomeTable, policies: Mapping[str, Policy] | None) -> Contender:
    """The contender that a caller means.

    Raises:
        ConfigError: It is nothing that chooses.
    """
    if isinstance(chooser, Router):
        return RouterContender(chooser, policies)
    if isinstance(chooser, Policy):
        return RouterContender(Router(table.models, policy=chooser), policies)
    if not callable(chooser):
        msg = f"a {type(chooser).__name__} chooses no models: give a Router, a policy, or a function from queries to model ids"  # type: ignore[unreachable]  # not every caller has a type checker
        raise ConfigError(msg)
    if policies is not None:
        raise ConfigError("policies rank what a router expects: a function of your own already chooses, leave policies out")
    return FunctionContender(chooser, table.models)


class RouterContender:
    """A router, with its own policy or several to compare."""

    learns = True

    def __init__(self, router: Router, policies: Mapping[str, Policy] | None) -> None:
        self.router = router
        self.policies = {ROUTED: router.policy} if policies is None else dict(policies)
        self.grows = policies is None and isinstance(router.estimator, IncrementalEstimator)

    def prepare(self, table: OutcomeTable, /) -> OutcomeTable:
        """The pool's columns, and vectors where they can be had."""
        found = self.router.table(_columns(table, self.router.pool.ids))
        if found.embeddings is None and not found.withheld.any():
            # A router that needs no vectors is compared with baselines that do.
            return found.embedded(self.router.embedder.embed, self.router.embedder.fingerprint)
        return found

    def ready(self, reference: OutcomeTable | None, /) -> None:
        """See `Contender`."""
        if self.router.fitted:
            return
        if reference is None:
            msg = "the router is not fitted, and there is nothing to fit it on: call fit, or give reference= or a split"
            raise NotFittedError(msg)
        own = self.router.policy
        self.router = self.router.clone().fit(reference)
        self.policies = {name: self.router.policy if policy is own else policy for name, policy in self.policies.items()}

    def play(self, fold: Fold, test: OutcomeTable, /, *, learn: bool) -> Played:
        """See `Contender`."""
        if fold.newcomer is not None:
            return self._join(fold, test)
        if not learn or fold.train is None:
            return self._choose(self.router, self.policies, test)
        router = self.router.clone().fit(fold.train)
        policies = {}
        for name, policy in self.policies.items():
            if policy is self.router.policy:
                policies[name] = router.policy
            elif isinstance(policy, CalibratedPolicy):  # its constant is learned from the training part, too
                policies[name] = self.router.clone(policy=policy).fit(fold.train).policy
            else:
                policies[name] = policy
        return self._choose(router, policies, test)

    def _join(self, fold: Fold, test: OutcomeTable) -> Played:
        """The newcomer joins with its probes; beside that, the router without it and with all its outcomes."""
        if fold.train is None or fold.probes is None or fold.newcomer is None:
            raise ConfigError(f"{fold.name}: a fold with a newcomer needs a training part and probes")
        card = self.router.pool[self.router.pool.index(fold.newcomer)]
        others = ModelPool(one for one in self.router.pool if one.id != fold.newcomer)
        router = self.router.clone(pool=others).fit(fold.train.select(others.ids))
        without = _shares(router.route_many(asked(test)), test.models)
        joined = self._choose(router.add_model(card, fold.probes), {ROUTED: router.policy}, test)
        whole = self._choose(self.router.clone().fit(fold.train), {ROUTED: self.router.policy}, test)
        shares = {ROUTED: joined.shares[ROUTED], WITHOUT: without, WHOLE: whole.shares[ROUTED]}
        return Played(shares=shares, fallback=joined.fallback)

    def _choose(self, router: Router, policies: Mapping[str, Policy], test: OutcomeTable) -> Played:
        queries = asked(test)
        shares, estimate = {}, None
        for name, policy in policies.items():
            if router.fitted:
                decisions, estimate = router.decide_many(queries, policy=policy)
                estimate = _eligible(router, queries, estimate)
            else:
                decisions = router.route_many(queries, policy=policy)
            shares[name] = _shares(decisions, test.models)
        return Played(shares=shares, estimate=estimate, fallback=test.models.index(router.default))


class FunctionContender:
    """A function from queries to model ids, such as another library's router."""

    grows = False
    learns = False

    def __init__(self, choose: Chooser, models: tuple[str, ...]) -> None:
        self.choose = choose
        self.models = models

    def ready(self, reference: OutcomeTable | None, /) -> None:
        """See `Contender`."""

    def prepare(self, table: OutcomeTable, /) -> OutcomeTable:
        """With vectors, for the baselines that need them; as it is where there is no text to make them from."""
        table = _columns(table, self.models)
        if table.embeddings is not None or table.withheld.any():
            return table
        embedder = StaticEmbedder()
        return table.embedded(embedder.embed, embedder.fingerprint)

    def play(self, fold: Fold, test: OutcomeTable, /, *, learn: bool) -> Played:  # noqa: ARG002 - it learns elsewhere
        """See `Contender`."""
        queries = asked(test)
        names = list(self.choose(queries))
        if len(names) != len(queries):
            raise DataError(f"the function named {len(names)} models for {len(queries)} queries: return one id for each")
        column = {model: j for j, model in enumerate(test.models)}
        unknown = [name for name in names if name not in column]
        if unknown:
            raise UnknownModelError(unknown[0], test.models, where="the table")
        return Played(shares={ROUTED: np.eye(len(column))[[column[name] for name in names]]})


def _columns(table: OutcomeTable, models: tuple[str, ...]) -> OutcomeTable:
    """The table of these models, in this order.

    Raises:
        DataError: One of them is not in it, or has no score.
    """
    missing = [model for model in models if model not in table.models]
    if missing:
        raise DataError(
            f"the table holds no outcome of {missing[0]!r}, so that nothing can be compared: ask all models the same questions "
            "(agentroute collect)"
        )
    return table.select(models)


def _eligible(router: Router, queries: Sequence[Query], estimate: Estimate) -> Estimate:
    """The estimates of the models that may answer; NaN for the others, which no policy chooses."""
    if all(query.allow is None and not query.needs for query in queries):
        return estimate
    may = np.zeros(estimate.quality.shape, bool)
    for row, query in enumerate(queries):
        may[row, list(router.pool.eligible(query))] = True
    return replace(estimate, quality=np.where(may, estimate.quality, np.nan))


def _shares(decisions: Sequence[Decision], models: tuple[str, ...]) -> Floats:
    column = {model: j for j, model in enumerate(models)}
    return np.asarray(np.eye(len(models))[[column[decision.model] for decision in decisions]])
