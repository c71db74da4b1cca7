"""What was asked, and which model a conversation keeps."""

import copy
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError
from agentroute.pool import ModelPool
from agentroute.serving import Asked, Decider, StickyCache, Turn, question


def user(text):
    return Turn(role="user", text=text)


def tool(text="7"):
    return Turn(role="tool", text=text)


def by(model, text="", **record):
    """An answer with a record on it."""
    return Turn(role="assistant", text=text, record={"answered_by": model, **record})


def plain(text="", *calls):
    """An answer without one."""
    return Turn(role="assistant", text=text, calls=calls)


SYSTEM = Turn(role="system", text="be brief")


class TestQuestion:
    @pytest.mark.parametrize(
        ("turns", "expected"),
        [
            ((), ""),
            ((user("a"), plain("b"), user("c")), "c"),
            ((user("a"), plain("b"), tool("c")), "a"),
            ((user("a"), user(""), plain("b")), ""),
            ((SYSTEM,), "be brief"),
            ((SYSTEM, plain("b"), tool("c")), "b"),
            ((SYSTEM, plain(""), tool("c")), "be brief"),
            ((tool("c"),), ""),
        ],
    )
    def test_is_what_the_user_said_last_and_never_what_a_tool_said(self, turns, expected):
        assert question(turns) == expected

    @given(st.lists(st.sampled_from([user("q"), tool("secret"), plain("secret"), SYSTEM])))
    def test_a_user_s_words_are_never_passed_over(self, turns):
        assert question([user("first"), *turns]) in {"first", "q"}


def kept(turns, sticky, models=("small", "large")):
    decider = Decider(
        ModelPool(models), router=lambda _: models[0], default=None, sticky=sticky, role=None, task=None, logged=False
    )
    return decider.kept(Asked(turns=turns))


class TestByRecord:
    LOOP = (user("add"), by("small"), tool())

    @pytest.mark.parametrize(
        ("turns", "in_loop", "in_conversation"),
        [
            ((), None, None),
            ((user("add"),), None, None),
            (LOOP, "small", "small"),
            ((*LOOP, tool("8")), "small", "small"),
            ((*LOOP, by("large", "7")), None, "large"),
            ((*LOOP, plain("7"), user("and now?")), None, "small"),
            # The answer that began the loop has no record: what stood before it belongs to another turn.
            ((*LOOP, plain("", "call 2"), tool("8")), None, "small"),
            ((tool(),), None, None),
            ((user("add"), by("small"), SYSTEM, tool()), None, "small"),
            ((user("add"), by("retired"), tool()), None, None),
            ((by("large"), user("add"), by("retired"), tool()), None, "large"),
        ],
    )
    def test_where_a_conversation_keeps_its_model(self, turns, in_loop, in_conversation):
        assert kept(turns, "tool_loop") == in_loop
        assert kept(turns, "conversation") == in_conversation
        assert kept(turns, "none") is None

    def test_a_routed_model_within_reads_the_record_below_the_outer_one(self):
        turns = (user("add"), by("team", via={"answered_by": "inner", "via": {"answered_by": "large"}}), tool())
        assert kept(turns, "tool_loop") == "large"
        assert kept(turns, "tool_loop", ("team", "large")) == "team"
        assert kept(turns, "tool_loop", ("other",)) is None

    @pytest.mark.parametrize("record", [None, {}, "small", {"answered_by": None}, {"answered_by": ["small"]}, {"via": "small"}])
    def test_what_is_no_record_keeps_nothing(self, record):
        turns = (user("add"), Turn(role="assistant", record=record), tool())
        assert kept(turns, "tool_loop") is None
        assert kept(turns, "conversation") is None


class TestStickyCache:
    ASKED = (SYSTEM, user("add 3 and 4"))
    ANSWER = plain("", "call 1")

    @pytest.fixture
    def cache(self):
        cache = StickyCache()
        cache.remember(self.ASKED, self.ANSWER, "small")
        return cache

    def test_a_tool_loop_is_known_again(self, cache):
        assert cache.recall((*self.ASKED, self.ANSWER, tool()), "tool_loop") == "small"
        assert cache.recall((*self.ASKED, self.ANSWER, tool(), tool("8")), "tool_loop") == "small"
        assert cache.recall((*self.ASKED, self.ANSWER, tool()), "none") is None

    def test_the_next_question_is_new_but_for_a_whole_conversation(self, cache):
        turns = (*self.ASKED, self.ANSWER, tool(), user("and now?"))
        assert cache.recall(turns, "tool_loop") is None
        assert cache.recall(turns, "conversation") == "small"

    def test_conversation_follows_its_latest_answer(self, cache):
        turns = (*self.ASKED, self.ANSWER, tool())
        second = plain("7")
        cache.remember(turns, second, "large")
        turns = (*turns, second, user("and now?"))
        assert cache.recall(turns, "conversation") == "large"
        third = plain("8")
        cache.remember(turns, third, "small")
        assert cache.recall((*turns, third, user("and then?")), "conversation") == "small"

    def test_a_history_that_was_cut_short_still_finds_it(self, cache):
        assert cache.recall((user("add 3 and 4"), self.ANSWER, tool()), "tool_loop") == "small"

    @pytest.mark.parametrize(
        "turns",
        [
            (),
            ASKED,
            (*ASKED, tool()),
            (*ASKED, plain("", "call 2"), tool()),
            (*ASKED, plain("words", "call 1"), tool()),
            (user("add 3 and 5"), ANSWER, tool()),
        ],
    )
    def test_others_are_not_known(self, cache, turns):
        assert cache.recall(turns, "tool_loop") is None
        assert cache.recall(turns, "conversation") is None

    def test_scope_tells_equal_words_apart(self, cache):
        turns = (*self.ASKED, self.ANSWER, tool())
        assert cache.recall(turns, "tool_loop", scope="critic") is None
        cache.remember(self.ASKED, self.ANSWER, "large", scope="critic")
        assert cache.recall(turns, "tool_loop", scope="critic") == "large"
        assert cache.recall(turns, "tool_loop") == "small"

    @given(st.lists(st.text(max_size=3), min_size=4, max_size=4), st.lists(st.text(max_size=3), min_size=4, max_size=4))
    def test_words_do_not_run_into_one_another(self, left, right):
        def parts(scope, asked, said, call):
            return (user(asked),), plain(said.strip(), call), scope

        asked, answer, scope = parts(*left)
        cache = StickyCache()
        cache.remember(asked, answer, "small", scope=scope)
        other, said, elsewhere = parts(*right)
        found = cache.recall((*other, said, tool()), "tool_loop", scope=elsewhere)
        assert (found == "small") == ((asked, answer, scope) == (other, said, elsewhere))

    def test_the_oldest_are_forgotten(self):
        cache = StickyCache(2)
        for number in range(3):
            cache.remember((user(f"q{number}"),), plain("yes"), f"m{number}")
        assert len(cache) == 2
        found = [cache.recall((user(f"q{number}"), plain("yes"), tool()), "tool_loop") for number in range(3)]
        assert found == [None, "m1", "m2"]

    def test_what_is_remembered_again_is_young_again(self):
        cache = StickyCache(2)
        for name in ("a", "b", "a", "c"):
            cache.remember((user(name),), plain("yes"), name)
        assert cache.recall((user("a"), plain("yes"), tool()), "tool_loop") == "a"
        assert cache.recall((user("b"), plain("yes"), tool()), "tool_loop") is None

    def test_lone_surrogates_are_words_too(self):
        cache = StickyCache()
        cache.remember((user("\ud800"),), plain("\udfff"), "small")
        assert cache.recall((user("\ud800"), plain("\udfff"), tool()), "tool_loop") == "small"

    @pytest.mark.parametrize("size", [0, -1])
    def test_size(self, size):
        with pytest.raises(ConfigError, match="size="):
            StickyCache(size)

    def test_many_threads(self):
        cache = StickyCache(50)
        lost = []

        def work(name):
            for number in range(300):
                turns = (user(f"{name} {number}"),)
                cache.remember(turns, plain("yes"), name)
                if cache.recall((*turns, plain("yes"), tool()), "tool_loop") not in {name, None}:
                    lost.append(number)

        threads = [threading.Thread(target=work, args=(f"m{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(cache), lost) == (50, [])

    def test_a_pickled_one_begins_with_nothing_and_keeps_its_size(self, cache):
        cache.size = 7
        for other in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
            assert (len(other), other.size) == (0, 7)
        assert len(cache) == 1
