"""Planners and judges that fail: no answer and no outcome is lost, and somebody is told."""

import warnings

import pytest

from agentroute.cascades import Next, Pick
from agentroute.errors import ConfigError, JudgeFailedWarning, RouterFailedWarning
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.serving import Asked
from agentroute.types import Score
from langchain_agentroute import CascadeChatModel, asker, routing_decision
from langchain_agentroute._choosing import routing_of
from langchain_agentroute.testing import ScriptedChatModel

BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def models(*names):
    return {name: ScriptedChatModel(model_name=name) for name in names or ("small", "large")}


async def ask(model, asynchronous):
    return await model.ainvoke("x") if asynchronous else model.invoke("x")


class Plans:
    """A planner that goes through the models, and does what it is told at one point."""

    def __init__(self, *, at=9, does=None, picks=None):
        self.at, self.does, self.picks = at, does, picks

    def plan(self, query):
        return self

    def next(self, attempts, allowed):
        if len(attempts) == self.at:
            return self.does()
        return Next(model=allowed[0])

    def pick(self, attempts):
        return Pick(index=0, accepted=True) if self.picks is None else self.picks()


def raises():
    raise ValueError("broken plan")


@BOTH
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    ("does", "kind"), [(raises, "ValueError"), (lambda: Next(model="nosuch"), "ConfigError"), (lambda: 7, "AttributeError")]
)
async def test_a_plan_that_fails_costs_no_answer(at, does, kind, asynchronous):
    log = MemoryOutcomeLog()
    model = CascadeChatModel(models=models(), router=Plans(at=at, does=does), judge=lambda reply: 0.1, outcome_log=log)
    with pytest.warns(RouterFailedWarning, match=kind):
        message = await ask(model, asynchronous)
    assert message.text == "[large] answer to: x"
    record = routing_decision(message)
    assert record["fallback"] is True
    assert f"({kind})" in record["reason"]
    assert record["by"] == ("policy" if at else "default")
    model.outcome_log.flush(3)
    assert [(one.model, one.metadata["accepted"]) for one in log] == [("small", False), ("large", True)]


@BOTH
@pytest.mark.parametrize("picks", [raises, lambda: Pick(index=5, accepted=True), lambda: Pick(index=0, accepted=True)])
async def test_a_plan_that_picks_no_answer_costs_none(picks, asynchronous):
    given = models()
    given["small"].replies = [ConnectionError("down")]
    model = CascadeChatModel(models=given, router=Plans(picks=picks), judge=lambda reply: 0.7)
    with pytest.warns(RouterFailedWarning):
        message = await ask(model, asynchronous)
    assert message.text == "[large] answer to: x"
    assert routing_decision(message)["fallback"] is True


def test_a_plan_that_calls_nobody_costs_no_answer():
    model = CascadeChatModel(models=models(), router=Plans(at=0, does=lambda: None), judge=lambda reply: 0.7)
    with pytest.warns(RouterFailedWarning, match="calls no model"):
        assert model.invoke("x").text == "[small] answer to: x"


def test_who_is_called_first_leads_the_candidates():
    model = CascadeChatModel(models=models(), router=Plans(at=0, does=lambda: Next(model="large")), judge=lambda reply: 0.7)
    decision = routing_of(model).decider.begin(Asked(turns=())).decide().decision
    assert (decision.model, [one.model for one in decision.candidates]) == ("large", ["large", "small"])


class Odd:
    """A scorer whose signals are what they should not be."""

    name, needs, ceiling = "odd", frozenset(), 0.0

    def __init__(self, signals):
        self.signals = signals

    def score(self, query, reply):
        score = Score(value=0.9)
        object.__setattr__(score, "signals", self.signals)
        return score

    async def ascore(self, query, reply):
        return self.score(query, reply)


@BOTH
async def test_what_is_no_number_costs_no_outcome(asynchronous):
    judge = Odd({"good": 1, "none": None, "text": "abc", "far": float("inf")})
    log = MemoryOutcomeLog()
    model = CascadeChatModel(models=models(), judge=judge, outcome_log=log)
    assert (await ask(model, asynchronous)).text == "[small] answer to: x"
    model.outcome_log.flush(3)
    assert [one.metadata["signals"] for one in log] == [{"good": 1.0}]


def test_bookkeeping_that_fails_costs_no_outcome():
    judge = Odd(7)
    log = MemoryOutcomeLog()
    model = CascadeChatModel(models=models(), judge=judge, outcome_log=log)
    with pytest.warns(UserWarning, match="what became of an answer was not logged: AttributeError"):
        assert model.invoke("x").text == "[small] answer to: x"
    model.outcome_log.flush(3)
    assert [one.metadata for one in log] == [{"chosen": True}]


@pytest.mark.parametrize("ends", ["breaks", "is closed"])
def test_feedback_on_a_stream_that_ends_early_is_about_what_was_shown(ends):
    log = MemoryOutcomeLog()
    given = models()
    given["large"].replies = ["a b c d"]
    given["large"].break_after = 2 if ends == "breaks" else None
    model = CascadeChatModel(models=given, judge=lambda reply: 0.1, outcome_log=log)
    stream = model.stream("x")
    seen = next(stream) + next(stream)
    if ends == "breaks":
        with pytest.raises(ConnectionError):
            next(stream)
    else:
        stream.close()
    model.record_feedback(seen, 0.0)
    model.outcome_log.flush(3)
    assert [(one.model, one.quality, one.metadata.get("chosen")) for one in log] == [("small", None, None), ("large", 0.0, True)]


@BOTH
async def test_a_judge_that_fails_is_told_once_for_each_kind(asynchronous):
    errors = [KeyError("a"), KeyError("b"), TypeError("c")]

    def judge(reply):
        raise errors.pop(0)

    model = CascadeChatModel(models=models(), judge=judge)
    with pytest.warns(JudgeFailedWarning, match="judge 'judge' failed.* KeyError: 'a'"):
        await ask(model, asynchronous)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await ask(model, asynchronous)
    with pytest.warns(JudgeFailedWarning, match="TypeError: c"):
        await ask(model, asynchronous)


@BOTH
async def test_a_judge_that_measures_nothing_that_the_router_reads_is_told_once(asynchronous):
    planner = Plans()
    planner.signals = ("logprob", "length")
    given = {"found": 0.5}
    model = CascadeChatModel(models=models(), router=planner, judge=lambda reply: Score(value=0.9, signals=given))
    with pytest.warns(JudgeFailedWarning, match="the router reads 'logprob', and the judge .* gives .*'found'"):
        await ask(model, asynchronous)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await ask(model, asynchronous)
        given["logprob"] = -1.0
        model.judge = lambda reply: Score(value=0.9, signals=given)
        await ask(model, asynchronous)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"threshold": 0.7}, "nothing reads threshold=0.7: there is no judge="),
        ({"threshold": 0.7, "judge": len, "router": Plans()}, "the router= knows itself"),
        ({"default": "large"}, "has no default=: it begins with the first"),
        ({"scorer": len}, "no argument 'scorer': did you mean 'judge'"),
        ({"judges": len}, "no argument 'judges': did you mean 'judge'"),
        ({"judge": ScriptedChatModel()}, r"^judge= is a ScriptedChatModel, .* pass LLMJudge\(asker\(model\)\)$"),
        ({"judge": asker(ScriptedChatModel())}, r"^judge= is a ChatAsker, .* pass LLMJudge\(asker\(model\)\)$"),
    ],
)
def test_what_would_do_nothing_is_refused(kwargs, told):
    with pytest.raises(ConfigError, match=told):
        CascadeChatModel(models=models(), **kwargs)
