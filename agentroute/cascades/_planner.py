"""Cascade routing: of all sets of models that may still be called, the one that is worth most, one call at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import Course, StateEstimates
from agentroute.cascades._rules import Plans, Rules, bits
from agentroute.cascades._supermodels import Columns, Floats, SuperModels, is_whole, normal_draws
from agentroute.cascades._tuning import Rates, rescaled, tuned, valued
from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.types import Matrix

__all__ = ["CascadeRouting", "draw_of"]

_OPTIONS = (
    "budget", "willingness_to_pay", "climb", "ordered", "latency_weight", "max_models", "samples", "seed", "mix", "refine",
    "check_last",
)  # fmt: skip


def draw_of(key: str) -> float:
    """A number in [0, 1) that a query's key always gives, for `CascadeRouting.decide(draw=...)`.

    >>> 0.0 <= draw_of("a query") < 1.0
    True
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest()) / 2**48


class CascadeRouting:
    """Calls a model, looks at the answer, and decides anew: stop, or call one more, whichever.

    Before each call it weighs every set of models that holds those that have answered: the expected quality of the best answer
    in it, less lambda x the cost of the calls still to be made. It calls the cheapest missing member of the best set, or stops
    when nobody is missing. Routing and cascading are the same with less freedom: one model alone (`climb=False`), or the models
    in their order only (`ordered=True`).

    Lambda, quality per USD, comes either from `willingness_to_pay`, or is tuned by `fit` so that the log's mean spend keeps to
    `budget`: a bound on the average over queries like those of the log, not on any single one. With `willingness_to_pay`, `fit`
    looks for the lambdas under which the log's quality less its cost was greatest; before it, lambda is the price itself.

    Args:
        budget: USD a query on average, all its calls and scoring included; `None` = `willingness_to_pay` decides.
        willingness_to_pay: USD that one unit of quality is worth; infinity = the best answer whatever it costs.
        climb: Whether more than one model may answer.
        ordered: Whether models are called in the order of the columns only, the cheapest first.
        latency_weight: Quality that a second of waiting is worth; a query waits for the sum of its calls.
        max_models: Most models called for one query, failed ones included; `None` = no limit.
        samples: Draws for the expected maxima.
        seed: Of the draws.
        mix: Whether, for a budget, lambdas within 10 % of each other are spread over the queries by their keys. Queries of one
            kind have nearly the same estimates, so that one lambda moves hundreds of them at once, and misses the budget on
            new queries. The same query is always decided alike; two that are alike may not be.
        check_last: Whether the answer after which nobody is left to call is looked at too, and may lose to an earlier one.
            Otherwise it is taken as it comes, which lets it be streamed.
        refine: Whether lambda is tuned for each step; otherwise it is the same for all.

    Attributes:
        rates_: The lambdas.
        expected_cost_: Mean USD a query on the log, as billed.
        expected_quality_: Mean quality on the log.

    Raises:
        ConfigError: An option is out of range.

    Source: Dekoninck, Baader and Vechev 2024, A Unified Approach to Routing and Cascading for LLMs, arXiv:2410.10347. Theirs are
    the theory and Lemma 1; common draws for all sets, doubling, and tuning on envelopes are not.
    """

    kind = "cascade-routing"
    how = "optimisation"

    def __init__(
        self,
        *,
        budget: float | None = None,
        willingness_to_pay: float = math.inf,
        climb: bool = True,
        ordered: bool = False,
        latency_weight: float = 0.0,
        max_models: int | None = None,
        samples: int = 512,
        seed: int = 0,
        mix: bool = True,
        refine: bool = True,
        check_last: bool = False,
    ) -> None:
        if budget is not None and not 0.0 < budget < math.inf:
            raise ConfigError(f"budget={budget!r} must be a positive number of USD a query")
        if not willingness_to_pay > 0.0:
            raise ConfigError(
                f"willingness_to_pay={willingness_to_pay!r} must be above 0 USD per unit of quality (infinity = quality alone)"
            )
        if budget is not None and willingness_to_pay != math.inf:
            raise ConfigError("give budget or willingness_to_pay: the budget says what money is worth")
        if not is_whole(samples, 16):
            raise ConfigError(f"samples={samples!r} must be a whole number, 16 or more")
        if not is_whole(seed, 0):
            raise ConfigError(f"seed={seed!r} must be a whole number, 0 or more")
        # A number of NumPy's could not be saved as JSON.
        self.budget = None if budget is None else float(budget)
        self.willingness_to_pay = float(willingness_to_pay)
        self.climb, self.ordered = bool(climb), bool(ordered)
        self.latency_weight = float(latency_weight)
        self.max_models = None if max_models is None else int(max_models)
        self.check_last = bool(check_last)
        self.samples = int(samples)
        self.seed = int(seed)
        self.mix, self.refine = bool(mix), bool(refine)
        self._rules = Rules(climb=self.climb, ordered=self.ordered, latency_weight=latency_weight, max_models=max_models)
        self._sets: SuperModels | None = None
        self._given = Rates.constant(1.0 / willingness_to_pay)

    rates_: Rates
    expected_cost_: float
    expected_quality_: float

    @property
    def calls(self) -> int | None:
        """Most models that it calls for one query, when none fails; `None` = no limit."""
        return self.max_models if self.climb else 1

    def restricted(self, *, climb: bool | None = None, ordered: bool | None = None) -> CascadeRouting:
        """An unfitted policy with the same options but for its freedom; `None` = the same."""
        options = self._options()
        options |= {name: given for name, given in (("climb", climb), ("ordered", ordered)) if given is not None}
        return type(self)(**options)

    def fit(
        self,
        states: StateEstimates,
        quality: Matrix,
        cost: Matrix,
        /,
        *,
        score_cost: Matrix | None = None,
        live: StateEstimates | None = None,
    ) -> Self:
        """Tunes lambda on a log, in seconds for thousands of queries.

        Args:
            states: Out-of-fold estimates of n logged queries, the cheapest model first.
            quality: float64 [n, m], as observed; where a cell is NaN the estimate stands in.
            cost: float64 [n, m], as billed; the same.
            score_cost: float64 [n, m], USD of looking at each answer, where `cost` does not hold it.
            live: Estimates of the same queries by what new queries will be estimated with. Those of several folds differ a
                little among themselves, and a budget that is kept between them is not kept by either; so the lambdas are scaled
                until the spending by these keeps to it. `None` = they are not.

        Raises:
            ConfigError: Even calling the cheapest model alone costs more than the budget; the message gives its cost.
            DataError: The log and the states do not belong together, or the latency that is weighed is unknown.
        """
        self._sets = None
        course = self._course(states, quality, cost, score_cost)
        rates = self._rates(course, self.budget, mix=self.mix)
        if self.budget is not None and live is not None:
            course = self._course(live, quality, cost, score_cost)
            rates = rescaled(course, rates, self.budget, mix=self.mix)
        self.rates_ = rates
        points = course.points(self.rates_.table)
        self.expected_cost_, self.expected_quality_ = (float(part) for part in self.rates_.shares @ points)
        return self

    def frontier(
        self,
        states: StateEstimates,
        quality: Matrix,
        cost: Matrix,
        /,
        *,
        budgets: Floats | None = None,
        lambdas: Floats | None = None,
    ) -> Matrix:
        """Mean cost and quality at many exchange rates, all worked out together.

        Args:
            states: Estimates of n queries.
            quality: float64 [n, m], as observed.
            cost: float64 [n, m], as billed.
            budgets: float64 [k], USD a query; lambda is tuned for each on these very queries. On other queries, tune there
                (`lambdas_for`) and give the lambdas.
            lambdas: float64 [k], one for all steps, or [k, s], one for each step, the last for all later ones.

        Returns:
            float64 [k, 2], mean USD a query and mean quality.

        Raises:
            ConfigError: Neither budgets nor lambdas are given, or both; a budget cannot be kept.
        """
        if (budgets is None) == (lambdas is None):
            raise ConfigError("give budgets or lambdas: either says where on the frontier the points are")
        course = self._course(states, quality, cost)
        if lambdas is None:
            assert budgets is not None  # noqa: S101  # one of both is given
            found = [self._rates(course, float(budget), mix=self.mix) for budget in np.asarray(budgets, np.float64)]
            return np.stack([rates.shares @ course.points(rates.table) for rates in found])
        table = np.asarray(lambdas, np.float64)
        return course.points(table[:, None] if table.ndim == 1 else table)

    def lambdas_for(
        self, states: StateEstimates, quality: Matrix, cost: Matrix, /, *, budgets: npt.ArrayLike
    ) -> npt.NDArray[np.float64]:
        """The lambdas that keep to several budgets on a log, float64 [k, s], for `frontier` on other queries; none are mixed.

        Args:
            states: As for `fit`.
            quality: As for `fit`.
            cost: As for `fit`.
            budgets: float64 [k], USD a query.

        Raises:
            ConfigError: A budget cannot be kept.
        """
        course = self._course(states, quality, cost)
        return np.stack([self._rates(course, budget).table[0] for budget in np.asarray(budgets, np.float64).tolist()])

    def run(self, states: StateEstimates, /, *, draws: Floats | None = None) -> tuple[npt.NDArray[np.bool_], Columns]:
        """Who is called for each of n queries, bool [n, m], and whose answer is taken, int64 [n].

        Args:
            states: Estimates of n queries.
            draws: float64 [n] in [0, 1), for `mix`; `None` = drawn from the seed.
        """
        nothing = np.full(states.cost.shape, np.nan)
        course = self._course(states, nothing, nothing)
        rates = self._decided_rates()
        given = np.random.default_rng(self.seed).random(course.rows) if draws is None else draws
        return course.outcome(rates.table, rates.chosen(given))

    def decide(
        self,
        quality: Floats,
        cost: Floats,
        /,
        *,
        answered: int = 0,
        failed: int = 0,
        allowed: int | None = None,
        factor: Floats | None = None,
        latency: Floats | None = None,
        step: int | None = None,
        last: int | None = None,  # noqa: ARG002  # the contract of policies; the best answer counts, not the last
        most: int | None = None,
        draw: float | None = None,
    ) -> int | None:
        """The column to call next; `None` = stop, and the answer of the best estimate is taken (see `check_last`).

        While nobody has answered somebody is called, whatever it costs, as long as somebody may be.

        Args:
            quality: float64 [m], expected qualities after the answers so far; NaN = no idea.
            cost: float64 [m], expected USD of a call, the cheapest model first.
            answered: Bit j set = model j has answered.
            failed: Bit j set = model j was called and gave no answer: it takes no part any more.
            allowed: Bit j set = model j may be called; `None` = all may.
            factor: float64 [m, m], of how much the estimates will still move; `None` = not at all.
            latency: float64 [m], expected seconds.
            step: How many models were called; `None` = those that answered or failed.
            last: Not used.
            most: Most models that may be called for this query, failed ones included; `None` = `max_models`.
            draw: In [0, 1), the query's own (`draw_of`), for `mix`; `None` = the greatest lambda, within the budget.

        Raises:
            NotFittedError: It has a budget and was not fitted.
            DataError: Cost is weighed and a model of known quality has none, or latency is and there is none.
        """
        count = len(quality)
        called = (answered | failed).bit_count()
        rules = self._rules.within(most)
        columns = rules.columns(count, answered, failed, allowed)
        if not columns:
            return None
        # One model alone costs what the plan says: the price itself is right, not the lambda of plans that may go on.
        alone = rules is not self._rules and self.budget is None and rules.one_left(answered | failed)
        rate = (self._given if alone else self._decided_rates()).at(called if step is None else step, draw)
        # Plain numbers are quicker to look at than array cells.
        if any(price != price for price in cost.tolist()):  # noqa: PLR0124  # NaN
            if rate and not np.isnan(quality[np.isnan(cost)]).all():
                raise DataError("a model of known quality has no known cost, and cost is weighed: give its price")
            cost = np.where(np.isnan(cost), 0.0, cost)
        toll = rules.toll(latency)
        if not rate and toll is None and factor is not None and rules.any_set(answered | failed, columns):
            # Nothing is weighed against quality: the best set is that of all who add to it, found without the other sets.
            return self._free(quality, columns, answered, factor)
        options = rules.options(
            self._supermodels(count),
            quality[None],
            cost[None],
            columns,
            answered=answered,
            failed=failed,
            factor=factor,
            toll=toll,
            rate=rate,
        )
        best = int((options.worth - rate * options.cost).argmax())
        if best == 0 and answered:
            return None
        return int(options.leads[..., best or 1].flat[0])

    def _free(self, quality: Floats, columns: list[int], answered: int, factor: Floats) -> int | None:
        """As `decide`, where neither cost nor time is weighed and every set may be called."""
        sets = self._supermodels(len(quality))
        drawn = sets.drawn(quality[None], factor)[0]
        done = bits(answered)
        needed = sets.needed(drawn[columns], drawn[done].max(axis=0) if done else None)
        if needed:
            return columns[needed[0]]
        return None if answered else columns[0]

    def _course(self, states: StateEstimates, quality: Matrix, cost: Matrix, score_cost: Matrix | None = None) -> Course:
        """All ways through these states under this policy's rules."""
        shape = states.cost.shape
        if quality.shape != shape or cost.shape != shape:
            raise DataError(
                f"the states are {shape}, quality {quality.shape} and cost {cost.shape}: give the same queries and models"
            )
        if not len(states.cost):
            raise DataError("there are no queries: give states of one or more")
        if np.isnan(states.cost).any():
            raise DataError("a model has no known cost: give its price")
        plans = Plans(self._rules, self._supermodels(shape[1]), states)
        return Course(plans, states, quality, cost, score_cost=score_cost, check_last=self.check_last)

    def unseen(self, called: npt.NDArray[np.bool_], /) -> npt.NDArray[np.bool_]:
        """Which queries' answers were the last possible ones, and so taken as they came: bool [n, m] called to bool [n]."""
        most = called.shape[1] if self.calls is None else min(self.calls, called.shape[1])
        return np.asarray((called.sum(axis=1) >= most) & (not self.check_last), np.bool_)

    def _supermodels(self, models: int) -> SuperModels:
        if self._sets is None:
            self._sets = SuperModels(normal_draws(models, self.samples, self.seed))
        if len(self._sets.draws) != models:
            raise DataError(f"{models} models are given, it was made for {len(self._sets.draws)}: fit it again")
        return self._sets

    def _rates(self, course: Course, budget: float | None, *, mix: bool = False) -> Rates:
        if budget is None:
            # One model alone costs what the plan says: the price itself is right.
            price = 1.0 / self.willingness_to_pay
            return valued(course, price, refine=self.refine) if self.climb else self._given
        return tuned(course, budget, mix=mix, refine=self.refine and self.climb)

    def _decided_rates(self) -> Rates:
        try:
            return self.rates_
        except AttributeError:
            if self.budget is None:
                return self._given
            msg = f"this {type(self).__name__} has a budget and is not fitted: call fit(states, quality, cost) first"
            raise NotFittedError(msg) from None

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _OPTIONS}

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The options and what was learned, with the draws: another NumPy would make others."""
        config = self._options()
        config["willingness_to_pay"] = str(self.willingness_to_pay)  # JSON knows no infinity
        arrays: dict[str, npt.NDArray[Any]] = {} if self._sets is None else {"draws": self._sets.draws}
        if hasattr(self, "rates_"):
            config |= {"expected_cost": self.expected_cost_, "expected_quality": self.expected_quality_}
            arrays |= {"rates": self.rates_.table, "shares": self.rates_.shares}
        return config, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The policy that `state` described; it decides the same."""
        learned = {"kind", "willingness_to_pay", "expected_cost", "expected_quality"}
        given = {name: value for name, value in config.items() if name not in learned}
        made = cls(**given, willingness_to_pay=float(config["willingness_to_pay"]))
        if "draws" in arrays:
            made._sets = SuperModels(np.asarray(arrays["draws"], np.float32))
        if "rates" in arrays:
            made.rates_ = Rates(table=np.asarray(arrays["rates"]), shares=np.asarray(arrays["shares"]))
            made.expected_cost_, made.expected_quality_ = float(config["expected_cost"]), float(config["expected_quality"])
        return made

    def __repr__(self) -> str:
        """As constructed, without what was left at its default."""
        default = type(self)()
        told = ", ".join(f"{name}={value!r}" for name, value in self._options().items() if value != getattr(default, name))
        return f"{type(self).__name__}({told})"
