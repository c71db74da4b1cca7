"""The values: what they refuse, what they normalise, and their arithmetic."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, DataError
from agentroute.types import Candidate, Decision, Estimate, Fingerprint, ModelCard, Outcome, Paradigm, Price, Query, Usage, new_id

NAN = math.nan


class TestUsage:
    def test_tokens_of_two_calls(self):
        one = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4)
        assert one + one == Usage(input_tokens=2, output_tokens=4, cache_read_tokens=6, cache_write_tokens=8)

    def test_an_odd_report_is_taken(self):
        assert Usage(input_tokens=1, output_tokens=0, cache_read_tokens=5).cache_read_tokens == 5


class TestPrice:
    PRICE = Price(input=2.0, output=8.0, cache_read=0.5, cache_write=3.0, per_call=0.25)

    @pytest.mark.parametrize(
        ("usage", "cost"),
        [
            ((0, 0, 0, 0), 0.25),
            ((1_000_000, 0, 0, 0), 2.25),
            ((0, 1_000_000, 0, 0), 8.25),
            ((1_000_000, 0, 1_000_000, 0), 0.75),
            ((1_000_000, 0, 0, 1_000_000), 3.25),
            ((4_000_000, 1_000_000, 1_000_000, 2_000_000), 0.25 + 2.0 + 0.5 + 6.0 + 8.0),
        ],
    )
    def test_cost(self, usage, cost):
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        assert self.PRICE.cost(Usage(**dict(zip(names, usage, strict=True)))) == cost

    def test_cached_tokens_cost_as_others_where_nothing_else_is_said(self):
        usage = Usage(input_tokens=1_000_000, output_tokens=0, cache_read_tokens=300_000, cache_write_tokens=200_000)
        assert Price(input=2.0, output=0.0).cost(usage) == 2.0

    def test_more_cached_tokens_than_tokens_are_no_discount(self):
        odd = Usage(input_tokens=100_000, output_tokens=0, cache_read_tokens=1_000_000)
        assert Price(input=3.0, output=0.0, cache_read=0.3).cost(odd) == pytest.approx(0.3, rel=1e-12)

    @given(st.tuples(*[st.integers(0, 10**7)] * 4))
    def test_no_report_makes_a_cost_negative(self, tokens):
        usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], cache_read_tokens=tokens[2], cache_write_tokens=tokens[3])
        assert self.PRICE.cost(usage) >= 0.25

    @pytest.mark.parametrize("name", ["input", "output", "cache_read", "cache_write", "per_call"])
    @pytest.mark.parametrize("rate", [-0.1, NAN, math.inf])
    def test_rates_that_cannot_be_right(self, name, rate):
        with pytest.raises(ConfigError, match=f"price {name}="):
            Price(**{"input": 1.0, "output": 1.0, name: rate})


class TestModelCard:
    @pytest.mark.parametrize("id_", ["", None, 5])
    def test_needs_an_id(self, id_):
        with pytest.raises(ConfigError, match="non-empty id"):
            ModelCard(id=id_)

    def test_capabilities_become_a_set(self):
        with pytest.raises(ConfigError, match=r"price=0.15 must be a Price"):
            ModelCard(id="m", price=0.15)
        assert ModelCard(id="m", capabilities=["tools", "tools"]).capabilities == frozenset({"tools"})
        assert ModelCard(id="m", capabilities=[]).capabilities == frozenset()
        assert ModelCard(id="m").capabilities is None
        with pytest.raises(ConfigError, match="not one string"):
            ModelCard(id="m", capabilities="tools")

    @pytest.mark.parametrize("name", ["context_window", "max_output_tokens"])
    @pytest.mark.parametrize("limit", [0, -1])
    def test_limits_are_positive(self, name, limit):
        with pytest.raises(ConfigError, match=f"{name}={limit}"):
            ModelCard(id="m", **{name: limit})


def test_fingerprints_in_messages():
    assert str(Fingerprint(name="minilm", revision="3", dimension=256)) == "minilm@3 (256-d)"


class TestQuery:
    @pytest.mark.parametrize("text", [None, 5, b"bytes", ["a"]])
    def test_text_must_be_a_string(self, text):
        with pytest.raises(ConfigError, match=f"must be a string, not {type(text).__name__}"):
            Query(text=text)

    def test_lone_surrogates_are_replaced(self):
        assert Query(text="a\ud800b").text == "a\ufffdb"
        assert Query(text="\ud83d\ude00").text == "\U0001f600"

    def test_sets(self):
        query = Query(text="q", needs=["image"], allow=("a", "b"))
        assert (query.needs, query.allow) == (frozenset({"image"}), frozenset({"a", "b"}))
        with pytest.raises(ConfigError, match="needs='image'"):
            Query(text="q", needs="image")
        with pytest.raises(ConfigError, match="allow='gpt'"):
            Query(text="q", allow="gpt")

    @pytest.mark.parametrize("name", ["id", "role", "task"])
    @pytest.mark.parametrize("value", [7, b"x", ("a",), True])
    def test_names_are_strings(self, name, value):
        with pytest.raises(ConfigError, match=rf"a query's {name} must be a string or None, not .*: give str\("):
            Query(text="q", **{name: value})

    @pytest.mark.parametrize("tags", [{"tier": 1}, {1: "gold"}, {"tier": None}, {"a": "b", "tier": ["gold"]}, ["tier"], "tier"])
    def test_tags_are_strings(self, tags):
        with pytest.raises(ConfigError, match="tags must map strings to strings"):
            Query(text="q", tags=tags)

    def test_labels_in_a_fixed_order(self):
        query = Query(text="q", role="planner", task="sum", tags={"b": "2", "a": "1"})
        assert query.labels == ("task=sum", "role=planner", "tag:a=1", "tag:b=2")
        assert Query(text="q").labels == ()

    def test_equal_signs_do_not_mix_up_labels(self):
        one, two, three = (Query(text="q", tags=tags) for tags in ({"a=b": "c"}, {"a": "b=c"}, {"a%3Db": "c"}))
        assert one.labels == ("tag:a%3Db=c",)
        assert two.labels == ("tag:a=b=c",)
        assert three.labels == ("tag:a%253Db=c",)
        assert len({one.key(), two.key(), three.key()}) == 3

    @given(st.dictionaries(st.text("a=%3D:25"), st.text("a=%3D:25"), max_size=3))
    def test_the_kind_of_a_label_can_be_read_off(self, tags):
        found = [label.split("=", 1) for label in Query(text="q", tags=tags).labels]
        unescaped = {kind.removeprefix("tag:").replace("%3D", "=").replace("%25", "%"): value for kind, value in found}
        assert unescaped == tags

    def test_key_is_the_id_or_follows_from_text_and_labels(self):
        assert Query(text="q", id="7").key() == Query(text="other", id="7", role="x").key(b"salt") == "7"
        plain = Query(text="q")
        assert plain.key() == Query(text="q", input_tokens=3).key()
        others = [Query(text="r"), Query(text="q", role="a"), Query(text="q", task="a"), Query(text="q", tags={"a": "a"})]
        assert len({plain.key(), plain.key(b"salt"), *(query.key() for query in others)}) == 6
        assert len(plain.key()) == 32

    def test_a_query_with_a_text_is_not_withheld(self):
        bare = Query(text="", id="7", withheld=True)
        assert bare.withheld
        assert not replace(bare, text="q").withheld
        assert not Query(text="").withheld


class TestOutcome:
    @pytest.mark.parametrize("name", ["quality", "cost", "latency", "propensity"])
    def test_nan_is_unknown(self, name):
        assert getattr(Outcome(query=Query(text="q"), model="m", **{name: NAN}), name) is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("quality", 7.0),
            ("quality", -0.1),
            ("quality", math.inf),
            ("cost", -1.0),
            ("cost", math.inf),
            ("latency", -1.0),
            ("latency", math.inf),
            ("propensity", 1.1),
        ],
    )
    def test_out_of_range(self, name, value):
        with pytest.raises(DataError, match=f"{name}=.* of model 'm' is outside"):
            Outcome(query=Query(text="q"), model="m", **{name: value})

    @pytest.mark.parametrize("value", ["0.5", [1.0], 10**400])
    def test_no_number(self, value):
        with pytest.raises(DataError, match="quality of model 'm' must be a number or None") as caught:
            Outcome(query=Query(text="q"), model="m", quality=value)
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("value", [0, 1, True, np.float32(0.5), 0.0])
    def test_any_number_in_range(self, value):
        assert Outcome(query=Query(text="q"), model="m", quality=value).quality == value

    def test_each_has_its_own_id(self):
        ids = {Outcome(query=Query(text="q"), model="m").id for _ in range(10)}
        assert len(ids) == 10
        assert all(len(one) == 32 for one in ids | {new_id()})


def test_an_estimate_has_a_length():
    one = np.zeros((3, 2))
    found = Estimate(
        models=("a", "b"),
        quality=one,
        quality_std=one,
        cost=one,
        latency=one,
        support=one,
        similarity=np.zeros(3),
        supported=np.ones(3, dtype=bool),
    )
    assert len(found) == 3


def test_a_decision_knows_its_ranking_and_its_choice():
    paradigm = Paradigm(when="pre-generation", what=("text",), how="rule")
    first, second = Candidate(model="a", quality=0.5), Candidate(model="b")
    found = Decision(model="b", candidates=(first, second), reason="why", paradigm=paradigm)
    assert found.ranking == ("a", "b")
    assert found.chosen is second
    assert (found.by, found.propensity) == ("policy", 1.0)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Query(text="q"), "text"),
        (Usage(input_tokens=1, output_tokens=1), "input_tokens"),
        (Price(input=1.0, output=1.0), "input"),
        (ModelCard(id="m"), "price"),
    ],
)
def test_values_do_not_change(value, name):
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 0)
