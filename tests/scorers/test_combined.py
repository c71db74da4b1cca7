"""Several scorers as one: means, minima, joined signals and costs, and what is missing."""

import asyncio

import pytest

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers import All, ByModel, Finished, LogprobScorer, NotEmpty, Weighted, as_scorer
from agentroute.types import Query, Reply, Score

QUERY, REPLY = Query(text="?"), Reply(text="Lima")


def fixed(name, value, cost=0.0, ceiling=0.0, calls=None):
    def give(query, reply):
        if calls is not None:
            calls.append(name)
        return Score(value=value, cost=cost, reason="because", signals={name: value, f"{name}.x": 3.0})

    return as_scorer(give, name=name, ceiling=ceiling)


async def both(scorer, reply=REPLY):
    found = scorer.score(QUERY, reply)
    assert found == await scorer.ascore(QUERY, reply)
    return found


async def test_the_weighted_mean_joins_signals_and_costs():
    scorer = Weighted([(fixed("a", 0.2, 0.5, 1.0), 1), (fixed("b", 0.8, 0.25, 0.25), 3), (fixed("c", 1.0), 1)])
    found = await both(scorer)
    assert found.value == pytest.approx((0.2 + 3 * 0.8 + 1.0) / 5)
    assert found.cost == 0.75
    assert scorer.ceiling == 1.25
    assert found.signals == pytest.approx({"weighted": 0.72, "a": 0.2, "a.x": 3, "b": 0.8, "b.x": 3, "c": 1, "c.x": 3})
    assert found.reason == "a: because; b: because; c: because"


async def test_an_unknown_cost_or_ceiling_stays_unknown():
    assert (await both(Weighted([(fixed("a", 1, 0.5), 1), (fixed("b", 1, None), 1)]))).cost is None
    assert All(fixed("a", 1), fixed("b", 1, ceiling=None)).ceiling is None


async def test_all_is_the_least_and_stops_at_the_first_zero():
    calls = []
    found = await both(All(fixed("a", 0.7, 0.5, calls=calls), fixed("b", 0.3, 0.5, calls=calls), fixed("c", 0.9, calls=calls)))
    assert (found.value, found.cost, calls) == (0.3, 1.0, list("abcabc"))
    calls.clear()
    found = await both(All(fixed("a", 0.7, calls=calls), fixed("b", 0.0, calls=calls), fixed("dear", 0.9, 9.0, calls=calls)))
    assert (found.value, found.cost, calls) == (0.0, 0.0, list("abab"))
    assert "dear" not in found.signals


async def test_a_missing_signal_is_an_error_or_is_skipped():
    parts = [(LogprobScorer(), 1.0), (fixed("b", 0.4, 0.25), 1.0), (Finished(), 1.0)]
    for strict in (Weighted(parts), All(*(scorer for scorer, _ in parts))):
        assert strict.needs == {"logprobs", "finish"}
        with pytest.raises(MissingSignalError) as caught:
            strict.score(QUERY, REPLY)
        assert caught.value.signal == "logprobs"
        with pytest.raises(MissingSignalError, match="logprobs"):
            await strict.ascore(QUERY, REPLY)
    for lax in (Weighted(parts, on_missing="skip"), All(*(scorer for scorer, _ in parts), on_missing="skip")):
        assert lax.needs == frozenset()
        found = await both(lax)
        assert (found.value, found.cost) == (0.4, 0.25)
        assert "finished: skipped" in found.reason
        assert "finished" not in found.signals
        with pytest.raises(MissingSignalError, match="logprobs"):
            type(lax)(*([parts[:1]] if isinstance(lax, Weighted) else [LogprobScorer()]), on_missing="skip").score(QUERY, REPLY)


@pytest.mark.parametrize(("ceiling", "cost"), [(0.0, 0.25), (0.5, None), (None, None)])
async def test_what_a_skipped_part_may_have_spent_is_unknown(ceiling, cost):
    def asks_in_vain(query, reply):
        raise MissingSignalError("grade", "judge", "it was asked, and said something else")

    parts = [as_scorer(asks_in_vain, name="judge", ceiling=ceiling), fixed("b", 0.4, 0.25)]
    for lax in (All(*parts, on_missing="skip"), Weighted([(one, 1.0) for one in parts], on_missing="skip")):
        assert (await both(lax)).cost == cost
    stopped = All(fixed("a", 0.0, 0.25), parts[0], on_missing="skip")
    assert (await both(stopped)).cost == 0.25  # it was not asked at all


async def test_an_error_of_another_kind_is_never_skipped():
    def breaks(query, reply):
        raise TimeoutError("too slow")

    scorer = Weighted([(breaks, 1), (fixed("b", 1), 1)], on_missing="skip")
    with pytest.raises(TimeoutError):
        scorer.score(QUERY, REPLY)
    with pytest.raises(TimeoutError):
        await scorer.ascore(QUERY, REPLY)


async def test_awaited_parts_are_asked_at_the_same_time():
    met = asyncio.Barrier(2)

    async def waits(query, reply):
        await met.wait()  # alone, it would wait for ever
        return 1.0

    parts = [(as_scorer(waits, name="a"), 1), (as_scorer(waits, name="b"), 1)]
    assert (await asyncio.wait_for(Weighted(parts).ascore(QUERY, REPLY), 10)).value == 1.0


async def test_cancelling_reaches_the_parts():
    ended = []

    async def waits(query, reply):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.create_task(Weighted([(waits, 1)]).ascore(QUERY, REPLY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert ended == [True]


def test_what_cannot_be_combined_is_refused():
    for wrong in (
        lambda: Weighted([]),
        All,
        lambda: Weighted([(NotEmpty(), 0.0)]),
        lambda: Weighted([(NotEmpty(), float("nan"))]),
        lambda: Weighted([(NotEmpty(), 1), (NotEmpty(), 1)]),
        lambda: All(NotEmpty(), on_missing="ignore"),
    ):
        with pytest.raises(ConfigError):
            wrong()


async def test_combinations_nest():
    inner = All(NotEmpty(), fixed("b", 0.5))
    found = await both(Weighted([(inner, 1), (fixed("c", 1.0), 1)]))
    assert found.value == 0.75
    assert set(found.signals) == {"weighted", "all", "not_empty", "b", "b.x", "c", "c.x"}


async def test_each_model_is_judged_by_its_own():
    judge = ByModel({"small": lambda reply: 0.2, "middle": as_scorer(lambda reply: 0.4, ceiling=0.5, needs={"logprobs"})})
    small, middle = (Reply(text="!", model=model) for model in ("small", "middle"))
    assert [judge.score(QUERY, one).value for one in (small, middle)] == [0.2, 0.4]
    assert (await judge.ascore(QUERY, middle)).value == 0.4
    assert (judge.ceiling, judge.needs) == (0.5, {"logprobs"})
    for other in (Reply(text="!", model="large"), Reply(text="!")):
        with pytest.raises(MissingSignalError, match="small, middle"):
            judge.score(QUERY, other)
    assert ByModel({"small": lambda reply: 0.2}, default=lambda reply: 0.9).score(QUERY, Reply(text="!")).value == 0.9
    unknown = ByModel({"small": as_scorer(lambda reply: 0.2, ceiling=None)}, default=lambda reply: 0.9)
    assert unknown.ceiling is None
    with pytest.raises(ConfigError, match="no scorers"):
        ByModel({})
