"""`RoleAllocator`: gives each role of a team its model for a task, under a budget, from cards at first and from runs later."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ConfigError, LowSupportWarning, OutcomeDroppedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.teams._additive import Observed, held
from agentroute.teams._choosing import Chooser
from agentroute.teams._costs import CostModel
from agentroute.teams._designs import Trial, exploration_plan
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._learned import FitReport, report_of
from agentroute.teams._learning import Learned, learn
from agentroute.teams._observing import observed, usable
from agentroute.teams._opening import allocation_of, given_of, kept_of, limit_of, purse_of
from agentroute.teams._prior import card_prior
from agentroute.teams._scope import Scope
from agentroute.teams._session import TeamSession
from agentroute.teams._values import Allocation, Team, TeamRun, amount, only_runs
from agentroute.types import ModelCard, Query
from agentroute.types._shared import names

if TYPE_CHECKING:
    from agentroute.teams._budget import Budget
    from agentroute.teams._judging import AllocationReport

__all__ = ["RoleAllocator"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Model = TypeVar("Model")


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
        log: Where the runs of sessions go, such as a `RunLog`; `None`, or one that cannot be read = they are kept in memory.
        ridge: How strongly a model's effect is held toward what its card says, 1 / variance in logits; `None` = as the runs tell,
            in which cards say little or much.
        kind_ridge: How strongly its effect in one kind of task is held toward its effect in all; likewise.
        seed: Of clusters, plans, and the lots of `explore`; `None` = lots differ from process to process, as they must where
            several explore at once.

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
        ridge: float | None = None,
        kind_ridge: float | None = None,
        seed: int | None = None,
    ) -> None:
        if not willingness_to_pay > 0.0:
            raise ConfigError(f"willingness_to_pay={willingness_to_pay!r} must be above 0 USD for a success")
        if log is not None and not hasattr(log, "append"):
            raise ConfigError(f"log={log!r} must have append(run): give log=RunLog({str(log)!r})")
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
        self.ridge = None if ridge is None else held(ridge, "ridge")
        self.kind_ridge = None if kind_ridge is None else held(kind_ridge, "kind_ridge")
        self.seed = int(seed or 0)
        self.embedder = embedder
        self.drawn = 0
        self._runs: dict[str, TeamRun] = {}
        self._rng, self._dice = np.random.default_rng(seed), threading.Lock()
        self.prior = card_prior(team, self.pool, task=task, embedder=embedder)
        self.adopt(0, TaskKinds(seed=self.seed).fit(()), CostModel(team, self.pool), observed(team, self.ids, []))
        given = list(runs)
        if given:
            self.fit(given)

    # --- learning ---

    def record(self, run: TeamRun) -> None:
        """Keeps a run for the next `fit`, and hands it to the log.

        Raises:
            StorageError: The log cannot be written.
        """
        try:
            # A log may keep no words: what tells tasks apart then is the vector.
            run = replace(run, query=self._embedded([run.query])[0])
        except Exception as problem:  # declared fallback point: a run without a vector still tells most of what there is to tell
            warnings.warn(
                f"a team's run is recorded without a vector of its task: {problem}", OutcomeDroppedWarning, stacklevel=2
            )
        if self.log is None or not isinstance(self.log, Iterable):
            self._runs[run.id] = run  # a later word on a run takes the place of the first
        if self.log is not None:
            self.log.append(run)

    @property
    def runs(self) -> tuple[TeamRun, ...]:
        """The runs recorded: those of the log, where it can be read, else those kept in memory."""
        # Of the log itself `tuple` would ask its length first, and so read it twice.
        return tuple(iter(self.log)) if isinstance(self.log, Iterable) else tuple(self._runs.values())

    def fit(self, runs: Iterable[TeamRun] | None = None) -> FitReport:
        """Learns from runs, all at once; what was learned before is forgotten.

        Args:
            runs: The runs; `None` = those of the log, where it can be read, else those recorded.

        Returns:
            What was learned of each role and model, and of what nothing can be learned.
        """
        given = only_runs(self.runs if runs is None else runs)
        if runs is None and len(given) < self._learned.sum.runs:
            warnings.warn(
                f"fit() learns from {len(given)} runs, and forgets {self._learned.sum.runs}: keep runs in a log, log=RunLog(...)",
                LowSupportWarning,
                stacklevel=2,
            )
        kept, left_out = usable(self.team, self.ids, given)
        queries = self._embedded([run.query for run in kept])
        kept = [replace(run, query=query) for run, query in zip(kept, queries, strict=True)]
        costs = CostModel(self.team, self.pool).fit({run.id: run for run in given}.values())
        kinds = TaskKinds(seed=self.seed).fit(queries)
        drawn = sum(run.propensity is not None and run.propensity < 1.0 for run in kept)
        self.adopt(drawn, kinds, costs, observed(self.team, self.ids, kept, kinds.of(queries)))
        return self.report(left_out)

    def parts(self) -> tuple[Observed, TaskKinds, CostModel, Learned]:
        """What was observed, the kinds of tasks, what runs cost, and what was learned: all from which it can be made again."""
        return self._learned.sum.seen_, self._chooser.kinds, self._chooser.costs, self._learned

    def adopt(self, drawn: int, kinds: TaskKinds, costs: CostModel, seen: Observed, learned: Learned | None = None) -> None:
        """Goes by what was observed and learned, as `parts` gives it; `drawn` = runs whose models were drawn by lot."""
        if learned is None:
            learned = learn(self.team, self.ids, self.prior, seen, ridges=(self.ridge, self.kind_ridge), seed=self.seed)
        self._learned, self.drawn = learned, drawn
        # All that decisions are made by, changed at once: others may be deciding meanwhile.
        self._chooser = Chooser(
            team=self.team,
            pool=self.pool,
            costs=costs,
            kinds=kinds,
            sum=learned.sum,
            pairs=learned.pairs,
            willingness_to_pay=self.willingness_to_pay,
            judged=self.prior.reasons,
        )

    def report(self, left_out: Mapping[str, int] | None = None) -> FitReport:
        """What is known by now of each role and model."""
        return report_of(
            self.team,
            self.ids,
            self._chooser.sum,
            interaction=self._learned.interaction,
            pairs=self._learned.pairs is not None,
            unpaired=self._learned.unpaired,
            kinds=self._chooser.kinds.names_,
            drawn=self.drawn,
            left_out=left_out or {},
            prior=self.prior,
        )

    def evaluate(self, runs: Iterable[TeamRun], **options: Any) -> AllocationReport:
        """What the team would do with these allocations, told from runs that it has not learned from.

        Args:
            runs: Held-out runs, with the propensities with which they were drawn; runs of a fixed team have none.
            **options: `budget` = USD of each task; `others` = name → (role → model, mode), further assignments to judge;
                `few` = runs that each role and model should have (10); `resamples` of the bootstrap (1000); `seed` (0).

        Raises:
            DataError: No run has both a success and a propensity, or there are fewer than five tasks.
        """
        from agentroute.teams._judging import evaluate

        return evaluate(_Policy(self.team, self.ids, self.allocate), runs, **options)

    def exploration_plan(self, n: int) -> list[Trial]:
        """A balanced plan of n runs to learn from; see `agentroute.teams.exploration_plan`."""
        chooser, query = self._chooser, Query(text="")
        # A model is drawn whatever the mode is drawn: it must do in all of them.
        allowed = np.logical_and.reduce([chooser.filters.allowed(query, mode) for mode in self.team.modes])
        return exploration_plan(self.team, self.ids, n, allowed=allowed, seed=self.seed)

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
        if not amount(explore, "explore") <= 1.0:
            raise ConfigError(f"explore={explore!r} must be a share from 0 to 1")
        budget = None if budget is None or budget == math.inf else amount(budget, "budget")
        taking = None if roles is None else names(roles, "roles")
        chooser, query = self._chooser, self._query(task)
        with self._dice if explore > 0.0 else nullcontext():
            return chooser.decide(
                query, roles=taking, budget=budget, fixed=fixed, explore=explore, upper=upper, mode=mode, rng=self._rng
            )

    def _query(self, task: str | Query) -> Query:
        query = task if isinstance(task, Query) else Query(text=task)
        return self._embedded([query])[0] if self._chooser.kinds.by_ == "cluster" else query

    def _embedded(self, queries: list[Query]) -> list[Query]:
        """The queries with vectors, those that have a text; tasks that all have a label need none."""
        if all(query.task is not None for query in queries):
            return queries
        embedder = as_embedder(self.embedder)
        # Vectors of another embedder would fall anywhere.
        made = [
            query if query.fingerprint in {None, embedder.fingerprint} else replace(query, embedding=None, fingerprint=None)
            for query in queries
        ]
        rows = [row for row, query in enumerate(made) if query.embedding is None and query.text]
        if rows:
            for row, vector in zip(rows, embedder.embed([made[row].text for row in rows]), strict=True):
                made[row] = replace(made[row], embedding=vector, fingerprint=embedder.fingerprint)
        return made

    # --- sessions ---

    def session(
        self,
        task: str | Query,
        *,
        budget: float | Budget | None = None,
        shared: Budget | None = None,
        allocation: Allocation | Trial | None = None,
        **options: Any,
    ) -> TeamSession:
        """One run of the team: decided now, and again before each call as the money goes. Use it as a context manager.

        Args:
            task: What the team is asked.
            budget: Most USD of the run; or a `Budget` that is shared with other runs; `None` = that which the allocation was made
                for, where one is given, and infinity = none even then.
            shared: The `Budget` of many runs, beside the USD of this one, which are set aside from it until the run ends: the run
                is paid to its end, and spends no more than its own.
            allocation: What to begin with: an allocation, or a trial of `exploration_plan`, whose propensity is on the run's
                record unless the money changes its models; `None` = `allocate(task, budget=...)`.
            **options: As for `allocate`.

        Raises:
            BudgetError: No allocation keeps to what is left, or less than the run's budget is left of the shared one.
            ConfigError: The budget is neither an amount nor a `Budget`, the allocation is none, or the trial is of another team.
            NoEligibleModelError: A model of the trial cannot do the task.
        """
        query = self._query(task)
        if allocation is not None and options:
            raise ConfigError(f"give {', '.join(options)} to allocate(), or leave allocation= out")
        if allocation is not None and not isinstance(allocation, Trial):
            allocation = given_of(allocation)
            budget = allocation.budget if budget is None else budget
        limit = limit_of(budget, shared)
        if allocation is None:
            allocation = self.allocate(query, budget=limit, **options)
        elif isinstance(allocation, Trial):
            allocation = allocation_of(allocation, self.team, partial(self.allocate, query))
        chooser = self._chooser
        [mode] = chooser.modes(allocation.mode)
        scope = Scope(chooser, mode, query, allocation.models, options.get("fixed") or kept_of(allocation))
        return TeamSession(scope, allocation, query, purse_of(budget, limit, shared), self.record)

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

    def __getstate__(self) -> dict[str, Any]:
        """All but the dice: a copy, or another process, draws its own lots."""
        return {name: one for name, one in self.__dict__.items() if name not in {"_rng", "_dice"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With dice of its own."""
        self.__dict__.update(state)
        self._rng, self._dice = np.random.default_rng(), threading.Lock()

    def __repr__(self) -> str:
        """Roles and models."""
        return f"RoleAllocator({[role.name for role in self.team.roles]}, {list(self.ids)}, {self._learned.sum.runs} runs)"


@dataclass(slots=True)
class _Policy:
    """The allocator as a judge of allocations sees it."""

    team: Team
    models: Sequence[str]
    allocate: Callable[..., Allocation]
