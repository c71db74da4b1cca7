"""What the tests of the serving room share: decisions, and the smallest plug-in that there can be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from agentroute.cascades import Limits
from agentroute.pool import ModelPool
from agentroute.scorers import as_scorer
from agentroute.serving import Asked, CascadeCall, CascadeDecider, Decided, JudgesVoice, Spent, Turn, Watch, ceiling
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import Candidate, Decision, ModelCard, Paradigm, Price, Query, Reply, Usage

PARADIGM = Paradigm(when="pre-generation", what=("text",), how="rule")
PRICE = Price(input=1.0, output=1.0)
# A call of each costs at most 1 USD: a million tokens of answer at a dollar a million.
RUNGS = ModelPool([ModelCard(id=name, price=PRICE, max_output_tokens=1_000_000) for name in ("small", "middle", "large")])


@dataclass
class Log:
    """Keeps outcomes as they come, twice where they come twice."""

    outcomes: list = field(default_factory=list)

    def append(self, outcome):
        self.outcomes.append(outcome)

    def told(self, *names):
        """What stands under these names in the metadata of each outcome."""
        return [tuple(one.metadata.get(name) for name in names) for one in self.outcomes]


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def decide():
    """A decision for the first of some models; the others follow."""

    def made(*models, query=None, error=None, **kwargs):
        candidates = tuple(Candidate(model=model) for model in models)
        decision = Decision(model=models[0], candidates=candidates, reason="as told", paradigm=PARADIGM, id="d1", **kwargs)
        return Decided(query=query or Query(text="x"), decision=decision, error=error, latency=0.25)

    return made


class Seen(Watch):
    """A watch to which every answer says the same."""

    def told(self):
        return Spent(usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3, cache_write_tokens=1), cost=0.5)


@pytest.fixture
def seen():
    return Seen


@dataclass(slots=True, kw_only=True, eq=False)
class Cascade(CascadeCall):
    """Notes what it is asked, and knows what its calls can cost."""

    noted: list = field(default_factory=list)

    def left(self, index):
        self.noted.append(("left", index))

    def judged(self, attempt, reply, score):
        self.noted.append(("judged", attempt.model, reply.text))
        return score()

    async def ajudged(self, attempt, reply, score):
        self.noted.append(("judged", attempt.model, reply.text))
        return await score()

    def ceilings(self):
        return {name: ceiling(self.pool.card(name), input_tokens=0, most=None) for name in self.climb.models}


@pytest.fixture
def cascade(log):
    """The calls of a cascade over three models, by its judge."""

    def made(judge=None, *, planner=None, limits=None, threshold=0.5, check_last=False, kind=Cascade, forced=None, most=0.0):
        judge = as_scorer(judge, name="mine", ceiling=most) if callable(judge) else judge
        decider = CascadeDecider(
            RUNGS,
            planner=planner,
            judge=judge,
            threshold=threshold,
            check_last=check_last,
            sticky="none",
            role=None,
            task=None,
            logged=False,
        )
        climb = decider.begin(Asked(turns=(Turn(role="user", text="x"),), forced=forced)).decide()
        voice = JudgesVoice(judge, planner)
        return kind(decided=climb, pool=RUNGS, log=log, judge=judge, limits=limits or Limits(), voice=voice)

    return made


@pytest.fixture
def serve():
    """Calls as a plug-in does: each model gives the text, raises the error, or does what it is told."""

    def serving(call, **answers):
        def one(step):
            with Seen(call, step) as watch:
                answer = answers[step.model]
                if isinstance(answer, BaseException):
                    raise answer
                answer = answer() if callable(answer) else answer
            return replace(watch.ended(answer), reply=Reply(text=answer, model=step.model))

        return one

    return serving


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def both_ways(request):
    """Drives a call in both ways, each of its steps by one and the same function."""

    async def driven(call, one):
        async def other(step):
            return one(step)

        return await call.adrive(other) if request.param else call.drive(one)

    return driven


@pytest.fixture
def drive(both_ways, serve):
    """Drives a call in both ways, as a plug-in does."""

    async def driven(call, **answers):
        return await both_ways(call, serve(call, **answers))

    return driven


# --- roles of a team ---

PRICES = {"small": 0.01, "middle": 0.1, "large": 0.5}
"""USD of a call, however long."""


class Told(Watch):
    """A call whose answer tells its tokens and its price."""

    def told(self):
        return Spent(usage=Usage(input_tokens=10, output_tokens=5), cost=PRICES[self.step.model])


@pytest.fixture
def telling():
    return Told


@pytest.fixture
def allocator():
    """A planner and a solver, who get the large model unless money is short."""
    cards = [
        ModelCard(id=name, price=Price(input=0.0, output=0.0, per_call=usd), scores={"MMLU": usd}, context_window=window)
        for (name, usd), window in zip(PRICES.items(), (None, 1000, 2000), strict=True)
    ]
    roles = [Role(name=name, input_tokens=10, output_tokens=5) for name in ("planner", "solver")]
    return RoleAllocator(Team(roles=roles, modes=[Mode(name="alone")]), cards)


@pytest.fixture
def answering():
    """Calls of a role: each model says yes, or gives, raises or does what it is told."""

    def serving(call, watch=Told, **answers):
        def one(step):
            with watch(call, step) as watched:
                answer = answers.get(step.model, "yes")
                answer = answer() if callable(answer) else answer
                if isinstance(answer, BaseException):
                    raise answer
            return watched.ended(answer)

        return one

    return serving
