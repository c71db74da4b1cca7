"""Who takes a call: forced, allocated, kept, by the router, or the default."""

import time
import warnings

import numpy as np
import pytest

from agentroute.errors import ConfigError, NoEligibleModelError, OutcomeDroppedWarning, RouterFailedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving import Asked, Decider, SupportsRoute, Turn, known_model
from agentroute.types import Candidate, Decision, ModelCard, Paradigm, Query

PARADIGM = Paradigm(when="pre-generation", what=("text",), how="rule")
IDS = ("small", "large", "free")


class WaitingForEvent(Exception):
    """As in LlamaIndex's workflows: no failure."""


class Routes:
    """A router that keeps its queries and decides as told."""

    def __init__(self, *ranking, **kwargs):
        self.ranking = ranking
        self.kwargs = kwargs
        self.queries = []

    def route(self, query):
        self.queries.append(query)
        candidates = tuple(Candidate(model=model) for model in self.ranking)
        return Decision(model=self.ranking[0], candidates=candidates, reason="as told", paradigm=PARADIGM, **self.kwargs)


def decider(pool=None, *, router=None, default=None, sticky="tool_loop", role=None, task=None, logged=False):
    pool = ModelPool(IDS) if pool is None else pool
    return Decider(pool, router=router, default=default, sticky=sticky, role=role, task=task, logged=logged)


def turns(text="x", *, by=None):
    """A question, or a tool loop that a model has begun."""
    asked = Turn(role="user", text=text)
    if by is None:
        return (asked,)
    return (asked, Turn(role="assistant", record={"answered_by": by}), Turn(role="tool", text="7"))


def made(one, text="x", *, loop_of=None, **asked):
    return one.begin(Asked(turns=turns(text, by=loop_of), **asked)).decide()


def raising(error):
    def rule(_):
        raise error

    return rule


class TestOrder:
    def test_forced_asks_nobody_and_lets_nobody_else_in(self):
        router = Routes("large")
        decision = made(decider(router=router), forced="free", allocated="large", loop_of="small").decision
        assert (decision.model, decision.by, decision.ranking) == ("free", "forced", ("free",))
        assert router.queries == []

    def test_allocated_beats_kept_and_the_others_follow(self):
        decision = made(decider(router=Routes("small")), allocated="large", loop_of="free", role="critic").decision
        assert (decision.model, decision.by, decision.ranking) == ("large", "allocated", ("large", "small", "free"))
        assert decision.reason == "large was allocated to critic"
        assert decision.paradigm.how == "lookup"

    def test_allocated_without_a_role(self):
        assert made(decider(), allocated="large").decision.reason == "large was allocated to this call"

    def test_allocated_that_may_not_answer(self):
        pool = ModelPool([ModelCard(id="small", capabilities=()), ModelCard(id="large"), ModelCard(id="free")])
        decision = made(decider(pool, router=Routes("large")), allocated="small", needs=frozenset({"tools"})).decision
        assert (decision.model, decision.by) == ("large", "policy")
        assert made(decider(pool, router=Routes("large")), allocated="gone").decision.by == "policy"

    def test_kept_by_the_record(self):
        router = Routes("large", "small")
        decision = made(decider(router=router), loop_of="free").decision
        assert (decision.model, decision.by, decision.ranking) == ("free", "sticky", ("free", "small", "large"))
        assert router.queries == []

    def test_kept_by_the_caller_beats_the_record(self):
        assert made(decider(router=Routes("large")), loop_of="free", kept="small").decision.model == "small"
        assert made(decider(router=Routes("large"), sticky="none"), kept="small").decision.by == "sticky"

    def test_kept_that_is_gone_or_may_not_answer(self):
        pool = ModelPool([ModelCard(id="small", capabilities=()), ModelCard(id="large")])
        assert made(decider(pool, router=Routes("large")), kept="gone").decision.by == "policy"
        decision = made(decider(pool, router=Routes("large")), kept="small", needs=frozenset({"tools"})).decision
        assert (decision.model, decision.by) == ("large", "policy")

    def test_router(self):
        router = Routes("large", "small", propensity=0.25)
        decided = made(decider(router=router))
        assert (decided.decision.model, decided.decision.by, decided.decision.propensity) == ("large", "policy", 0.25)
        assert decided.error is None
        assert decided.latency > 0
        assert isinstance(router, SupportsRoute)

    def test_no_router(self):
        decision = made(decider(default="large")).decision
        assert (decision.model, decision.by, decision.ranking) == ("large", "default", ("large", "small", "free"))
        assert decision.reason == "there is no router, so that large answers"

    def test_summary_for_traces(self):
        decided = made(decider(router=Routes("large", "small", id="d1")))
        assert decided.summary() == {
            "model": "large",
            "by": "policy",
            "reason": "as told",
            "ranking": ["large", "small"],
            "decision_id": "d1",
        }


class TestDefault:
    def test_is_the_first_model_the_router_s_or_the_declared_one(self):
        router = Routes("small")
        router.default = "large"
        assert [decider().default, decider(router=router).default, decider(router=router, default="free").default] == [
            "small",
            "large",
            "free",
        ]

    def test_unknown(self):
        with pytest.raises(UnknownModelError, match="'tiny'"):
            decider(default="tiny")

    def test_that_may_not_answer_gives_its_turn_to_the_first_that_may(self):
        pool = ModelPool([ModelCard(id="a", capabilities=()), ModelCard(id="b", capabilities=("tools",)), ModelCard(id="c")])
        decision = made(decider(pool, default="a"), needs=frozenset({"tools"})).decision
        assert (decision.model, decision.ranking) == ("b", ("b", "c"))

    def test_declared_one_stands_in_for_the_router_s_own(self):
        decision = made(decider(router=Routes("large", "small", by="default"), default="small")).decision
        assert (decision.model, decision.ranking, decision.by) == ("small", ("small", "large"), "default")
        assert decision.reason == "as told; but the default declared for the routed model is small"

    def test_declared_one_that_the_router_did_not_rank(self):
        decision = made(decider(router=Routes("large", by="default"), default="free")).decision
        assert decision.ranking == ("free", "large")

    def test_router_s_own_stands_where_nothing_is_declared_or_it_decided(self):
        assert made(decider(router=Routes("large", by="default"))).decision.model == "large"
        assert made(decider(router=Routes("large"), default="small")).decision.model == "large"


class TestRule:
    def test_names_a_model(self):
        decision = made(decider(router=lambda query: "large" if "hard" in query.text else "small"), "a hard one").decision
        assert (decision.model, decision.by, decision.ranking) == ("large", "policy", ("large", "small", "free"))
        assert (decision.reason, decision.paradigm.how) == ("the rule chose large", "rule")

    def test_gives_a_decision(self):
        assert made(decider(router=Routes("large").route)).decision.reason == "as told"

    def test_names_somebody_who_may_not(self):
        pool = ModelPool([ModelCard(id="small", capabilities=()), ModelCard(id="large")])
        decision = made(decider(pool, router=lambda _: "small"), needs=frozenset({"tools"})).decision
        assert (decision.model, decision.by) == ("large", "default")
        assert decision.reason == "the rule's small may not answer this, so that large answers"

    def test_cannot_be_called(self):
        with pytest.raises(ConfigError, match="has no route"):
            decider(router="small")


class TestFailure:
    @pytest.mark.parametrize(
        ("router", "kind"),
        [
            (raising(RuntimeError("no index")), "RuntimeError"),
            (lambda _: "tiny", "UnknownModelError"),
            (lambda _: 7, "ConfigError"),
            (Routes("tiny"), "UnknownModelError"),
        ],
    )
    def test_costs_no_answer(self, router, kind):
        with pytest.warns(RouterFailedWarning, match=kind):
            decided = made(decider(router=router, default="large"))
        assert (decided.decision.model, decided.decision.by) == ("large", "default")
        assert type(decided.error).__name__ == kind
        assert decided.decision.reason == f"the router failed ({kind}), so that large answers"

    def test_nobody_may_answer_is_a_result(self):
        with pytest.raises(NoEligibleModelError):
            made(decider(router=raising(NoEligibleModelError({"small": "too dear"}))))

    def test_a_way_to_stop_is_no_failure(self):
        with pytest.raises(WaitingForEvent):
            made(decider(router=raising(WaitingForEvent())))


class TestQuery:
    def test_what_is_asked(self):
        asked = Asked(
            turns=(Turn(role="user", text="look", wants=frozenset({"image"})), Turn(role="tool", wants=frozenset({"pdf"}))),
            needs=frozenset({"tools"}),
            max_output_tokens=50,
        )
        query = decider(role="critic", task="review").query(asked)
        assert (query.text, query.role, query.task) == ("look", "critic", "review")
        assert query.needs == {"tools", "image", "pdf"}
        assert (query.max_output_tokens, query.input_tokens, query.allow) == (50, None, None)

    def test_the_caller_s_own_text_role_and_task_come_first(self):
        query = decider(role="critic", task="review").query(Asked(turns=turns("x"), text="y", role="planner", task="plan"))
        assert (query.text, query.role, query.task) == ("y", "planner", "plan")
        assert decider().query(Asked(turns=turns("x"), text="")).text == ""

    def test_tokens_are_counted_only_where_a_window_is_known(self):
        counts = []
        asked = Asked(turns=turns(), count=lambda: counts.append(1) or 40)
        assert decider().query(asked).input_tokens is None
        assert counts == []
        assert decider(ModelPool([ModelCard(id="a", context_window=100)])).query(asked).input_tokens == 40
        assert decider(ModelPool([ModelCard(id="a", context_window=100)])).query(Asked(turns=turns())).input_tokens is None

    def test_only_those_who_can_are_allowed(self):
        pool = ModelPool([ModelCard(id="a", context_window=50), ModelCard(id="b", context_window=500)])
        one = decider(pool)
        assert one.query(Asked(turns=turns(), count=lambda: 20)).allow is None
        assert one.query(Asked(turns=turns(), count=lambda: 200)).allow == {"b"}

    def test_a_rough_count_that_rules_everybody_out_rules_nobody_out(self):
        pool = ModelPool([ModelCard(id="a", context_window=50), ModelCard(id="b", context_window=500, capabilities=())])
        query = decider(pool).query(Asked(turns=turns(), count=lambda: 9_000))
        assert (query.input_tokens, query.allow) == (None, None)
        query = decider(pool).query(Asked(turns=turns(), count=lambda: 9_000, needs=frozenset({"tools"})))
        assert (query.input_tokens, query.allow) == (None, {"a"})

    def test_nobody_can(self):
        pool = ModelPool([ModelCard(id="a", context_window=50, capabilities=())])
        with pytest.raises(NoEligibleModelError):
            decider(pool).begin(Asked(turns=turns(), needs=frozenset({"tools"}), count=lambda: 9_000))
        with pytest.raises(NoEligibleModelError):
            decider(pool).begin(Asked(turns=turns(), needs=frozenset({"tools"})))


class TestEmbedding:
    class Embeds(Routes):
        def embed(self, query):
            return Query(text=query.text, embedding=np.ones(3, np.float32), allow=query.allow)

    def test_of_the_router_is_routed_on(self):
        router = self.Embeds("large")
        decided = made(decider(router=router))
        assert router.queries[0].embedding is not None
        assert decided.query.embedding is router.queries[0].embedding

    def test_of_a_fixed_decision_only_for_a_log(self):
        router = self.Embeds("large")
        assert made(decider(router=router), forced="small").query.embedding is None
        assert made(decider(router=router, logged=True), forced="small").query.embedding is not None

    def test_by_the_core_where_the_router_has_none(self):
        decided = made(decider(router=Routes("large"), logged=True), "what is the capital of France?")
        assert decided.query.embedding is not None
        assert decided.query.fingerprint is not None

    def test_that_fails_costs_no_answer(self):
        router = Routes("large")
        router.embed = raising(OSError("no table"))
        with pytest.warns(OutcomeDroppedWarning, match="without an embedding: OSError: no table"):
            decided = made(decider(router=router, logged=True), forced="small")
        assert decided.decision.model == "small"
        assert decided.query.embedding is None

    def test_that_stops_is_no_failure(self):
        router = Routes("large")
        router.embed = raising(WaitingForEvent())
        with pytest.raises(WaitingForEvent):
            made(decider(router=router, logged=True), forced="small")

    def test_whether_there_is_work_for_a_thread(self):
        def waits(one, **asked):
            return one.begin(Asked(turns=turns(), **asked)).waits

        assert waits(decider(router=Routes("large")))
        assert not waits(decider())
        assert not waits(decider(router=Routes("large")), forced="small")
        assert waits(decider(logged=True))
        assert waits(decider(router=Routes("large"), logged=True), forced="small")


@pytest.mark.parametrize("forced", [None, "small"])
def test_latency_is_the_decision_s(forced):
    begun = decider(router=Routes("large")).begin(Asked(turns=turns(), forced=forced))
    before = time.perf_counter()
    assert 0 < begun.decide().latency <= time.perf_counter() - before


def test_nothing_is_kept_between_calls():
    one = decider(router=Routes("large"))
    begun = one.begin(Asked(turns=turns("first")))
    other = one.begin(Asked(turns=turns("second"), forced="small"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (other.decide().query.text, begun.decide().query.text) == ("second", "first")
        assert begun.decide().decision.id != begun.decide().decision.id


def test_known_model():
    assert known_model(None, IDS) is None
    assert known_model("small", IDS) == "small"
    with pytest.raises(UnknownModelError, match="'tiny'"):
        known_model("tiny", IDS)


def test_a_router_that_looks_at_no_filter_gets_past_none():
    """Its choice gives way to the default, and those who may not answer are not asked when its choice fails either."""
    pool = ModelPool([ModelCard(id="mute", capabilities=frozenset()), ModelCard(id="deft"), ModelCard(id="able")])

    def whole(first, *others):
        ranked = tuple(Candidate(model=name) for name in (first, *others))
        return lambda query: Decision(
            model=first, candidates=ranked, reason="mine", paradigm=Paradigm(when="", what=(), how="rule")
        )

    asked = Asked(turns=turns(), needs=frozenset({"tools"}))
    refused = decider(pool, router=whole("mute", "able"), default="deft").begin(asked).decide().decision
    assert (refused.model, refused.by) == ("deft", "default")
    assert "mute may not answer" in refused.reason
    ranked = decider(pool, router=whole("able", "mute", "deft")).begin(asked).decide().decision
    assert ranked.ranking == ("able", "deft")
