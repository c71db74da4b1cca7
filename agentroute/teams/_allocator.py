"""`RoleAllocator`: gives each role of a team its model for a task, under a budget, from cards at first and from runs later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import BudgetError, ConfigError, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._budget import Budget, MemoryBudget
from agentroute.teams._choosing import Choice, Chooser
from agentroute.teams._costs import CostModel
from agentroute.teams._designs import Trial, exploration_plan
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._learned import FitReport, report_of
from agentroute.teams._observing import levels, observed, usable
from agentroute.teams._pairs import PairwiseLogit, surely_better
from agentroute.teams._prior import card_prior
from agentroute.teams._session import Scope, TeamSession
from agentroute.teams._values import Allocation, Team, TeamRun
from agentroute.types import ModelCard, Query

if TYPE_CHECKING:
    from agentroute.teams._judging import AllocationReport

__all__ = ["RoleAllocator"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Model = TypeVar("Model")

_ALL: Final = 20_000  # assignments that exploration draws from as they are
_LEVELS: Final = np.linspace(0.0, 1.0, 33)
_SURE: Final = 0.01  # p-value below which a sum of effects is not believed


class RoleAllocator:
    """Gives each role of a team its model, the team its mode, and leaves out roles that are not worth their price.

    On the first day it goes by the models' cards: what they scored on benchmarks that are near to each role's description, else
    their prices. From runs of the team it learns what each model adds in each role (`AdditiveLogit`), for each kind of task where
    there are enough, from nothing but whether the team succeeded. What the runs cannot tell it does not say: see `FitReport`.

    Of all allocations that keep to a budget it takes the one with the greatest chance of success; with a
    `willingness_to_pay` the one whose chance is worth most beyond its cost.

    Args:
        team: Roles and modes.
        models: The models, by cards.
        willingness_to_pay: USD that a success is worth; infinity = as much success as the budget buys.
        embedder: Of tasks and descriptions; `None` = the one that ships.
        task: What the team is for, in a sentence: helps to read the cards.
        runs: Runs to learn from at once, as by `fit`.
        log: Where the runs of sessions go, such as a `RunLog`; they are kept in memory as well.
        ridge: How strongly a model's effect is held toward what its card says.
        kind_ridge: How strongly its effect in one kind of task is held toward its effect in all.
        seed: Of exploration and clusters.

    Raises:
        ConfigError: The team or the models do not fit together, or an option is out of range.

    ```python
    team = Team(roles=[Role(name="planner", description="plans the work"), Role(name="coder", description="writes code")])
    allocator = RoleAllocator(team, cards)
    allocation = allocator.allocate("Write a parser for dates.", budget=0.02)
    ```
    """

    def __init__(
        self,
        team: Team,
        models: ModelPool | Iterable[ModelCard | str],
        *,
        willingness_to_pay: float = math.inf,
        embedder: Embedder | None = None,
        task: str = "",
        runs: Iterable[TeamRun] = (),
        log: Any = None,
        ridge: float = 1.0,
        kind_ridge: float = 4.0,
        seed: int = 0,
    ) -> None:
        if not willingness_to_pay > 0.0:
            raise ConfigError(f"willingness_to_pay={willingness_to_pay!r} must be above 0 USD for a success")
        self.team = team
        self.pool = models if isinstance(models, ModelPool) else ModelPool(models)
        self.ids = self.pool.ids
        for role in team.roles:
            for model in {role.model} - {None} | set(role.allow or ()):
                if model not in self.ids:
                    raise UnknownModelError(str(model), self.ids, where=f"for role {role.name!r} the team")
        self.willingness_to_pay = float(willingness_to_pay)
        self.task = task
        self.log = log
        self.ridge, self.kind_ridge, self.seed = float(ridge), float(kind_ridge), int(seed)
        self.embedder = embedder
        self.drawn = 0
        self._runs: list[TeamRun] = []
        self._rng = np.random.default_rng(seed)
        self._prior = card_prior(team, self.pool, task=task, embedder=embedder)
        self._costs = CostModel(team, self.pool)
        self._kinds = TaskKinds(seed=seed).fit(())
        self._learn(self._nothing())
        given = list(runs)
        if given:
            self.fit(given)

    # --- learning ---

    def _nothing(self) -> Observed:
        none, roles = np.zeros(0), len(self.team.roles)
        empty = np.zeros((0, roles), np.int64)
        return Observed(columns=empty, modes=np.zeros(0, np.int64), kinds=np.zeros((0, len(self._kinds))), success=none)

    def _additive(self, kinds: int) -> AdditiveLogit:
        counts = levels(self.team, self.ids)
        prior = self._prior.mean[:, : counts.max()]
        return AdditiveLogit(
            counts, modes=len(self.team.modes), kinds=kinds, prior=prior, ridge=self.ridge, kind_ridge=self.kind_ridge
        )

    def _pairwise(self) -> PairwiseLogit:
        counts = levels(self.team, self.ids)
        prior = self._prior.mean[:, : counts.max()]
        return PairwiseLogit(counts, modes=len(self.team.modes), prior=prior, ridge=self.ridge)

    def _learn(self, seen: Observed) -> None:
        self._seen = seen
        self._sum = self._additive(len(self._kinds))
        self._sum.fit(seen)
        self._interaction = self._sum.interaction(seed=self.seed)
        pairs: PairwiseLogit | None = None
        if self._interaction < _SURE:
            plain = replace(seen, kinds=seen.kinds[:, :0])
            if surely_better(self._pairwise, lambda: self._additive(len(self._kinds)), seen, seed=self.seed):
                pairs = self._pairwise()
                pairs.fit(plain)
        self._pairs = pairs
        self._chooser = Chooser(
            team=self.team,
            pool=self.pool,
            costs=self._costs,
            sum=self._sum,
            pairs=pairs,
            willingness_to_pay=self.willingness_to_pay,
        )

    def record(self, run: TeamRun) -> None:
        """Keeps a run for the next `fit`, and hands it to the log.

        Raises:
            StorageError: The log cannot be written.
        """
        self._runs.append(run)
        if self.log is not None:
            self.log.append(run)

    @property
    def runs(self) -> tuple[TeamRun, ...]:
        """The runs recorded since it was made."""
        return tuple(self._runs)

    def fit(self, runs: Iterable[TeamRun] | None = None) -> FitReport:
        """Learns from runs, all at once; what was learned before is forgotten.

        Args:
            runs: The runs; `None` = those of the log, where it can be read, else those recorded.

        Returns:
            What was learned of each role and model, and of what nothing can be learned.
        """
        given = list(runs) if runs is not None else list(self.log) if isinstance(self.log, Iterable) else list(self._runs)
        kept, left_out = usable(self.team, self.ids, given)
        queries = self._embedded([run.query for run in kept])
        kept = [replace(run, query=query) for run, query in zip(kept, queries, strict=True)]
        costs = CostModel(self.team, self.pool).fit(given)
        kinds = TaskKinds(seed=self.seed).fit(queries)
        drawn = sum(run.propensity is not None for run in kept)
        self.adopt(drawn, kinds, costs, observed(self.team, self.ids, kept, kinds.of(queries)))
        return self.report(left_out)

    def parts(self) -> tuple[Observed, TaskKinds, CostModel]:
        """What was observed, the kinds of tasks, and what runs cost: all from which it can be made again."""
        return self._seen, self._kinds, self._costs

    def adopt(self, drawn: int, kinds: TaskKinds, costs: CostModel, seen: Observed) -> None:
        """Goes by what was observed, as `parts` gives it; `drawn` = runs whose models were drawn by lot."""
        self.drawn, self._kinds, self._costs = drawn, kinds, costs
        self._learn(seen)

    def report(self, left_out: Mapping[str, int] | None = None) -> FitReport:
        """What is known by now of each role and model."""
        return report_of(
            self.team,
            self.ids,
            self._sum,
            interaction=self._interaction,
            pairs=self._pairs is not None,
            kinds=self._kinds.names_,
            drawn=self.drawn,
            left_out=left_out or {},
            prior=self._prior,
        )

    def evaluate(self, runs: Iterable[TeamRun]) -> AllocationReport:
        """What the team would do with these allocations, told from runs that it has not learned from.

        Args:
            runs: Held-out runs, with the propensities with which they were drawn.
        """
        from agentroute.teams._judging import evaluate

        report: AllocationReport = evaluate(self, runs)
        return report

    def exploration_plan(self, n: int) -> list[Trial]:
        """A balanced plan of n runs to learn from; see `agentroute.teams.exploration_plan`."""
        return exploration_plan(self.team, self.ids, n, allowed=self._chooser.allowed(Query(text=""), None, None), seed=self.seed)

    # --- deciding ---

    def allocate(
        self,
        task: str | Query,
        *,
        roles: Sequence[str] | None = None,
        budget: float | None = None,
        fixed: Mapping[str, str] | None = None,
        explore: float = 0.0,
        upper: bool = False,
        mode: str | None = None,
    ) -> Allocation:
        """Which model each role should have for a task.

        Args:
            task: What the team is asked.
            roles: The roles that take part; `None` = all, optional ones where they pay.
            budget: Most USD that the run may be expected to cost.
            fixed: Role → the model that it must have.
            explore: Share of runs that are drawn at random from all allocations that keep to the budget, so that there is
                something to learn from.
            upper: Whether what 95 % of runs stay below keeps to the budget, and not only the mean.
            mode: The mode; `None` = the best.

        Raises:
            ConfigError: There is no such role or mode, or `explore` is no share.
            UnknownModelError: `fixed` names a model that there is not.
            NoEligibleModelError: No model can serve a role; the message names it.
            BudgetError: Even the cheapest allocation costs more; it says what that costs.
            PriceUnknownError: Cost is weighed, and that of a model is unknown.
        """
        if not 0.0 <= explore <= 1.0:
            raise ConfigError(f"explore={explore!r} must be a share from 0 to 1")
        if budget is not None and not budget >= 0.0:
            raise ConfigError(f"budget={budget!r} must be 0 USD or more; None = no budget")
        query = self._query(task)
        allowed = self._chooser.allowed(query, roles, fixed)
        kinds = self._kinds.of([query])[0]
        modes = self._chooser.modes(mode)
        limit = math.inf if budget is None else budget
        found: list[Choice] = []
        short: list[BudgetError] = []
        for one in modes:
            try:
                found.append(self._chooser.best(one, kinds, allowed, limit, upper=upper))
            except BudgetError as error:
                short.append(error)
        if not found:
            raise self._chooser.too_little(short, modes, allowed, limit, upper=upper)
        best = max(found, key=lambda choice: (self._chooser.worth(choice), -choice.cost))
        propensity, reason = 1.0, ""
        if explore > 0.0:
            best, propensity, reason = self._chooser.explored(best, modes, kinds, allowed, limit, explore, self._rng, upper=upper)
        return self._allocation(best, kinds, budget, propensity, reason)

    def _query(self, task: str | Query) -> Query:
        query = task if isinstance(task, Query) else Query(text=task)
        return self._embedded([query])[0] if self._kinds.by_ == "cluster" else query

    def _embedded(self, queries: list[Query]) -> list[Query]:
        """The queries with vectors, those that have a text and no vector yet."""
        rows = [row for row, query in enumerate(queries) if query.embedding is None and query.text]
        if not rows or all(query.task is not None for query in queries):
            return queries
        embedder = as_embedder(self.embedder)
        made = list(queries)
        for row, vector in zip(rows, embedder.embed([queries[row].text for row in rows]), strict=True):
            made[row] = replace(queries[row], embedding=vector, fingerprint=embedder.fingerprint)
        return made

    # --- what comes of it ---

    def _allocation(self, choice: Choice, kinds: Floats, budget: float | None, propensity: float, reason: str) -> Allocation:
        model = self._pairs or self._sum
        place = self.team.modes.index(choice.mode)
        own = kinds[: model.kinds]
        columns = np.minimum(choice.columns, model.width - 1)
        chance, low, high = model.interval(columns, place, own)
        upper = float(self._costs.exact(choice.mode.name, choice.columns[None], upper=True)[0])
        return Allocation(
            models=self._chooser.named(choice.columns),
            mode=choice.mode.name,
            expected_quality=chance,
            quality_interval=(low, high),
            expected_cost=choice.cost,
            cost_upper=upper,
            budget=budget,
            propensity=propensity,
            reasons=self._reasons(choice.columns, kinds, reason),
            exact=choice.exact,
        )

    def _reasons(self, columns: Places, kinds: Floats, reason: str) -> dict[str, str]:
        """Why each role has its model."""
        values, found = self._chooser.values(kinds), {}
        learned = bool(len(self._seen))
        for row, role in enumerate(self.team.roles):
            column = int(columns[row])
            if column == len(self.ids):
                found[role.name] = "left out: it adds less than it costs" if role.optional else "takes no part"
                continue
            if reason or role.model is not None:
                found[role.name] = reason or "the team says so"
                continue
            gain = float(values[row, column] - values[row, : len(self.ids)].mean())
            by = f"by {int(self._sum.runs_[row, column])} runs" if learned else self._prior.reasons[role.name]
            found[role.name] = f"{gain:+.2f} in the logit of success against the mean of the models, {by}"
        return found

    # --- sessions ---

    def session(
        self,
        task: str | Query,
        *,
        budget: float | Budget | None = None,
        allocation: Allocation | None = None,
        **options: Any,
    ) -> TeamSession:
        """One run of the team: decided now, and again before each call as the money goes. Use it as a context manager.

        Args:
            task: What the team is asked.
            budget: Most USD of the run; or a `Budget` that is shared with other runs.
            allocation: What to begin with; `None` = `allocate(task, budget=...)`.
            **options: As for `allocate`.

        Raises:
            BudgetError: No allocation keeps to what is left.
        """
        query = self._query(task)
        purse = MemoryBudget(budget) if isinstance(budget, (int, float)) else budget
        if allocation is None:
            allocation = self.allocate(query, budget=None if purse is None else purse.left(), **options)
        elif options:
            raise ConfigError(f"give {', '.join(options)} to allocate(), or leave allocation= out")
        return TeamSession(self, allocation, query, purse, self.record)

    def scope(self, query: Query, mode: str, models: Mapping[str, str]) -> Scope:
        """What a session decides by, for the roles that take part."""
        [one] = self._chooser.modes(mode)
        rows = [row for row, role in enumerate(self.team.roles) if role.name in models]
        # Who takes part is settled: an allow that leaves nobody out makes the costs what they are for this team.
        allowed = self._chooser.allowed(query, [self.team.roles[row].name for row in rows], None)
        costs = self._costs.matrix(mode, allowed, upper=True, strict=False)
        calls = self._costs.calls_.mean(axis=1) * one.rounds * (1 + one.reviews)
        return Scope(
            roles=tuple(self.team.roles[row].name for row in rows),
            values=self._chooser.values(self._kinds.of([query])[0])[rows],
            costs=np.where(np.isnan(costs), 0.0, costs)[rows],
            allowed=allowed[rows],
            calls=calls[rows],
        )

    def models(self, task: str | Query, among: Mapping[str, Model], **options: Any) -> dict[str, Model]:
        """Role → the framework's own model for it, as `allocate(task)` says.

        Args:
            task: What the team is asked.
            among: Model → what the framework calls it by, such as a chat model.
            **options: As for `allocate`.

        Raises:
            UnknownModelError: A model of the allocation is not among them.
        """
        allocation = self.allocate(task, **options)
        for model in allocation.models.values():
            if model not in among:
                raise UnknownModelError(model, among, where="among=")
        return {role: among[model] for role, model in allocation.models.items()}

    # --- on disk ---

    def save(self, folder: str | Path, /) -> None:
        """Writes all that `load` needs into a folder; no text of any task.

        Raises:
            ArtefactError: The folder holds something else.
        """
        from agentroute.teams._saving import save

        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path, /, *, embedder: Embedder | None = None, log: Any = None) -> Self:
        """The allocator that was saved; it allocates the same.

        Raises:
            ArtefactError: The folder is damaged, foreign, or from a later version.
        """
        from agentroute.teams._saving import load

        made: Self = load(cls, folder, embedder=embedder, log=log)
        return made

    def __repr__(self) -> str:
        """Roles and models."""
        return f"RoleAllocator({[role.name for role in self.team.roles]}, {list(self.ids)}, {len(self._seen)} runs)"
