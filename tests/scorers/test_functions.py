"""User functions as scorers and askers: what they may take and give, and what is refused."""

import asyncio
import functools
import secrets
import threading

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, MissingSignalError
from agentroute.scorers import NotEmpty, Scorer, as_asker, as_scorer
from agentroute.scorers._asking import cost_of, fenced
from agentroute.types import Query, Reply, Score

QUERY = Query(text="What is the capital of Peru?")
REPLY = Reply(text="Lima")


@pytest.mark.parametrize(
    ("given", "value"),
    [(True, 1.0), (False, 0.0), (0.25, 0.25), (1, 1.0), (np.bool_(True), 1.0), (np.float32(0.5), 0.5), (np.int64(0), 0.0)],
)
async def test_what_a_function_gives_becomes_a_score(given, value):
    scorer = as_scorer(lambda query, reply: given, name="mine")
    assert isinstance(scorer, Scorer)
    score = scorer.score(QUERY, REPLY)
    assert (score.value, score.cost, dict(score.signals)) == (value, 0.0, {"mine": value})
    assert score == await scorer.ascore(QUERY, REPLY)


@pytest.mark.parametrize("given", [7.0, -0.1, float("nan"), float("inf"), 2, None, "0.5", [0.5], np.array(0.5), {}])
async def test_what_is_no_score_is_refused_by_name(given):
    scorer = as_scorer(lambda query, reply: given, name="mine")
    with pytest.raises(DataError, match="'mine' gave"):
        scorer.score(QUERY, REPLY)
    with pytest.raises(DataError, match="'mine' gave"):
        await scorer.ascore(QUERY, REPLY)


def test_a_score_keeps_its_cost_and_reason_and_gets_its_signal():
    given = Score(value=0.5, cost=0.01, reason="so", signals={"x": 3.0})
    score = as_scorer(lambda reply: given, name="mine", ceiling=0.02).score(QUERY, REPLY)
    assert score == Score(value=0.5, cost=0.01, reason="so", signals={"mine": 0.5, "x": 3.0})
    own = Score(value=0.5, signals={"mine": 9.0})
    assert as_scorer(lambda reply: own, name="mine").score(QUERY, REPLY) is own


class Judge:
    def both(self, query, reply):
        return query is QUERY and reply is REPLY

    def one(self, reply, strict=False):
        return reply is REPLY and not strict

    def __call__(self, query, reply):
        return 0.5


def test_the_arguments_without_default_say_what_a_function_takes():
    def named(question, answer, /, threshold=3):
        return question is QUERY and answer is REPLY

    def several(*both):
        return both == (QUERY, REPLY)

    functions = [Judge().both, Judge().one, named, several, functools.partial(named, threshold=1), lambda reply: reply is REPLY]
    assert [as_scorer(one, name="x").score(QUERY, REPLY).value for one in functions] == [1.0] * 6
    assert as_scorer(Judge()).score(QUERY, REPLY).value == 0.5
    assert as_scorer(Judge()).name == "Judge"
    assert as_scorer(named).name == "named"
    assert as_scorer(lambda reply: 1).name == "function"


@pytest.mark.parametrize("function", [lambda: 1, lambda a, b, c: 1, lambda a=1: 1, lambda a, *, must: 1, lambda **named: 1])
def test_other_arguments_are_refused(function):
    with pytest.raises(ConfigError, match="must take"):
        as_scorer(function)


def test_what_cannot_score_is_refused():
    with pytest.raises(ConfigError, match=r"is a class: pass an instance, as in NotEmpty\(\)"):
        as_scorer(NotEmpty)
    with pytest.raises(ConfigError, match="cannot score"):
        as_scorer("judge")
    with pytest.raises(ConfigError, match="not empty"):
        as_scorer(lambda reply: 1, name="")
    with pytest.raises(ConfigError, match="ceiling=-1"):
        as_scorer(lambda reply: 1, ceiling=-1)
    check = NotEmpty()
    assert as_scorer(check) is check
    made = as_scorer(lambda reply: 1, needs=["logprobs"], ceiling=None)
    assert (made.needs, made.ceiling) == (frozenset({"logprobs"}), None)


async def test_async_functions_are_for_asynchronous_callers():
    async def waits(query, reply):
        await asyncio.sleep(0)
        return 0.75

    scorer = as_scorer(waits)
    assert (await scorer.ascore(QUERY, REPLY)).value == 0.75
    with pytest.raises(ConfigError, match="async function"):
        scorer.score(QUERY, REPLY)
    hidden = as_scorer(lambda reply: waits(QUERY, reply), name="hidden")  # nobody can see that it is async before it is called
    assert (await hidden.ascore(QUERY, REPLY)).value == 0.75
    with pytest.raises(ConfigError, match="gave an awaitable"):
        hidden.score(QUERY, REPLY)


async def test_a_plain_function_does_not_hold_up_the_loop():
    inside = []
    await as_scorer(lambda reply: inside.append(threading.current_thread()) or 1, name="x").ascore(QUERY, REPLY)
    assert inside[0] is not threading.current_thread()


def test_an_asked_function_is_given_what_it_takes():
    seen = []

    def full(prompt, *, samples, max_tokens, temperature, logprobs, schema):
        seen.append((prompt, samples, max_tokens, temperature, logprobs, schema))
        return [Reply(text=str(i), cost=0.5) for i in range(samples)]

    told = as_asker(full).ask("p", samples=3, max_tokens=9, temperature=0.5, logprobs=True, schema={"type": "object"})
    assert [one.text for one in told] == ["0", "1", "2"]
    assert seen == [("p", 3, 9, 0.5, True, {"type": "object"})]
    assert [
        one.text for one in as_asker(lambda prompt, max_tokens: f"{prompt}{max_tokens}").ask("p", samples=2, max_tokens=4)
    ] == [
        "p4",
        "p4",
    ]
    assert as_asker(lambda prompt, **options: str(sorted(options))).ask("p", samples=1, max_tokens=4)[0].text == (
        "['max_tokens', 'samples']"
    )


async def test_asked_functions_sync_and_async_say_the_same():
    async def waits(prompt, temperature):
        await asyncio.sleep(0)
        return f"{prompt} {temperature}"

    plain = as_asker(lambda prompt, temperature: f"{prompt} {temperature}")
    expected = [Reply(text="p 0.3")] * 2
    assert plain.ask("p", samples=2, temperature=0.3) == expected
    assert await plain.aask("p", samples=2, temperature=0.3) == expected
    assert await as_asker(waits).aask("p", samples=2, temperature=0.3) == expected
    hidden = as_asker(lambda prompt, temperature: waits(prompt, temperature=temperature))
    assert await hidden.aask("p", samples=2, temperature=0.3) == expected
    for asker in (as_asker(waits), hidden):
        with pytest.raises(ConfigError, match="asynchronous"):
            asker.ask("p", temperature=0.3)


@pytest.mark.parametrize("given", [3, None, [3], {"a": 1}])
def test_an_asked_function_that_gives_no_reply_is_refused(given):
    with pytest.raises(DataError, match="return a text, a Reply"):
        as_asker(lambda prompt: given).ask("p")


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ConfigError, match="cannot be asked"):
        as_asker("gpt")
    with pytest.raises(ConfigError, match="is a class"):
        as_asker(Judge)


def test_an_unknown_cost_makes_the_sum_unknown():
    assert cost_of([Reply(text="", cost=0.25), Reply(text="", cost=0.5)]) == 0.75
    assert cost_of([Reply(text="", cost=0.25), Reply(text="")]) is None


def test_a_fence_is_new_each_time_or_follows_from_its_seed():
    lines = {fenced("ANSWER", "x", limit=9, seed=None) for _ in range(20)}
    assert len(lines) == 20
    assert fenced("ANSWER", "x", limit=9, seed=1) == fenced("ANSWER", "x", limit=9, seed=1)
    assert len({fenced("ANSWER", text, limit=9, seed=seed) for text in "xy" for seed in (1, 2)}) == 4


def test_a_text_that_holds_its_fence_gets_another():
    # A fence that follows from a known seed and text can be looked up, but it follows from the text that holds it, too.
    text = "x"
    for _ in range(5):
        fence = fenced("ANSWER", text, limit=1000, seed=1).split("]")[0].split()[1]
        text += f"\n[END OF ANSWER {fence}]"
        found = fenced("ANSWER", text, limit=1000, seed=1)
        mark = found.splitlines()[0].removeprefix("[ANSWER ").removesuffix("]")
        assert mark not in text
        assert found == f"[ANSWER {mark}]\n{text}\n[END OF ANSWER {mark}]"


def test_a_fence_that_the_text_holds_is_drawn_again(monkeypatch):
    drawn = iter(["a" * 16, "b" * 16, "c" * 16])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(drawn))
    assert fenced("ANSWER", f"{'a' * 16} {'b' * 16}", limit=100, seed=None).startswith(f"[ANSWER {'c' * 16}]")


def test_a_long_text_loses_its_middle_and_says_so():
    text = "a" * 50 + "b" * 1000 + "c" * 50
    body = "\n".join(fenced("ANSWER", text, limit=100, seed=0).splitlines()[1:-1])
    assert body == "a" * 50 + "\n[… 1000 characters are left out here …]\n" + "c" * 50
    assert fenced("ANSWER", text, limit=1100, seed=0).count("b") > 1000 - 1


def test_a_missing_signal_says_what_who_and_what_to_do():
    error = MissingSignalError("logprobs", "logprob_mean", "ask for them")
    assert isinstance(error, LookupError)
    assert (error.signal, error.scorer) == ("logprobs", "logprob_mean")
    assert "ask for them" in str(error)
