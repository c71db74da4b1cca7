"""The arguments that every routed model has: checked, and put to use."""

from pathlib import Path

import pytest

from agentroute.cascades import Limits
from agentroute.errors import ConfigError, DataError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import as_scorer
from agentroute.serving import check_cascade, check_log, check_names, record_feedback
from agentroute.types import Outcome, Query


class TestNames:
    KNOWN = ("models", "router", "temperature")
    MEANT = {"models": "models", "router": "router", "planner": "router"}  # noqa: RUF012

    @pytest.mark.parametrize(("given", "meant"), [("modles", "models"), ("ruoter", "router"), ("planer", "router")])
    def test_misspelt(self, given, meant):
        with pytest.raises(ConfigError, match=f"a routed model has no argument '{given}': did you mean '{meant}'"):
            check_names(["models", given], self.KNOWN, self.MEANT, "a routed model")

    @pytest.mark.parametrize("given", ["models", "temperature", "seed", "x"])
    def test_known_and_others_pass(self, given):
        check_names([given], self.KNOWN, self.MEANT, "a routed model")


class TestLog:
    @pytest.mark.parametrize("log", [None, MemoryOutcomeLog()])
    def test_fine(self, log):
        check_log(log)

    @pytest.mark.parametrize("log", ["runs.db", Path("runs.db")])
    def test_a_path(self, log):
        with pytest.raises(ConfigError, match=r"is a path: open it, outcome_log=SqliteOutcomeLog\('runs.db'\)"):
            check_log(log)

    def test_what_takes_nothing(self):
        with pytest.raises(ConfigError, match="has no append"):
            check_log(7)


class TestCascade:
    def check(self, *, judge=None, router=None, threshold=0.5, max_cost=None):
        check_cascade(judge=judge, router=router, threshold=threshold, default=0.5, limits=Limits(max_cost=max_cost))

    def test_fine(self):
        judge = as_scorer(lambda reply: 1.0)
        self.check()
        self.check(judge=judge, threshold=0.9, max_cost=1.0)
        self.check(judge=judge, router=object())
        self.check(max_cost=1.0)

    def test_nobody_reads_the_threshold(self):
        with pytest.raises(ConfigError, match=r"nothing reads threshold=0.9: there is no judge="):
            self.check(threshold=0.9)
        with pytest.raises(ConfigError, match=r"nothing reads threshold=0.9: the router= knows itself"):
            self.check(threshold=0.9, judge=as_scorer(lambda reply: 1.0), router=object())

    def test_a_limit_that_cannot_be_kept(self):
        judge = as_scorer(lambda reply: 1.0, name="dear", ceiling=None)
        with pytest.raises(ConfigError, match="the most that the judge 'dear' costs"):
            self.check(judge=judge, max_cost=1.0)
        self.check(judge=judge)


class TestFeedback:
    @pytest.fixture
    def log(self):
        log = MemoryOutcomeLog()
        log.append(Outcome(query=Query(text="x"), model="small", decision_id="decision-1"))
        return log

    def test_by_record_or_id(self, log):
        assert record_feedback(log, {"decision_id": "decision-1"}, 1.0, source="user", key=None) is True
        assert record_feedback(log, "decision-1", 0.5, source="test", key=None) is True
        assert [one.quality for one in log] == [0.75]

    def test_a_key_counts_once(self, log):
        found = [record_feedback(log, "decision-1", score, source="user", key="k") for score in (1.0, 0.0)]
        assert found == [True, False]
        assert [one.quality for one in log] == [1.0]

    def test_no_log(self):
        with pytest.raises(ConfigError, match="there is no outcome log"):
            record_feedback(None, "decision-1", 1.0, source="user", key=None)

    def test_no_record(self, log):
        with pytest.raises(ConfigError, match="carries no routing record"):
            record_feedback(log, None, 1.0, source="user", key=None)

    @pytest.mark.parametrize("text", ["", "Paris", "The capital of France is Paris.", "a" * 129, "0123456789abcdef\n"])
    def test_text_that_is_no_id(self, log, text):
        with pytest.raises(ConfigError, match="is no decision id"):
            record_feedback(log, text, 1.0, source="user", key=None)

    def test_score(self, log):
        with pytest.raises(DataError):
            record_feedback(log, "decision-1", 2.0, source="user", key=None)
