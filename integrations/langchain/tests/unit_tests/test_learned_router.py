"""The whole circle with the real router: log, fit, save, load, route, log again, feedback, fit again."""

import json

import numpy as np
import pytest

from agentroute.embedders import CallableEmbedder
from agentroute.errors import ArtefactError, ConfigError, UnknownModelError
from agentroute.outcomes import SqliteOutcomeLog
from agentroute.router import Router
from agentroute.types import ModelCard, Outcome, Price, Query
from langchain_agentroute import RoutedChatModel, SupportsRoute, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

TOPICS = ["sum", "poem"]


def embed(texts):
    noise = np.random.default_rng(0).normal(scale=0.05, size=(len(texts), 4))
    return noise + [[float(topic in text) for topic in [*TOPICS, "zebra", "law"]] for text in texts]


@pytest.fixture
def embedder():
    return CallableEmbedder(embed, name="topics", revision="1", dimension=4)


@pytest.fixture
def folder(tmp_path, embedder):
    """A router that has learned: the small model can do sums, the large one poems."""
    cards = [ModelCard(id="small", price=Price(input=1, output=1)), ModelCard(id="large", price=Price(input=9, output=9))]
    rows = [
        Outcome(query=Query(text=f"{topic} number {n}"), model=model, quality=float(right), cost=0.001)
        for n in range(60)
        for topic in TOPICS
        for model, right in (("small", topic == "sum"), ("large", topic == "poem"))
    ]
    with SqliteOutcomeLog(tmp_path / "first.db", store_prompts=True) as log:
        log.extend(rows)
        Router(cards, embedder=embedder).fit(log).save(tmp_path / "router")
    return tmp_path / "router"


def models(*names):
    return {name: ScriptedChatModel(model_name=name) for name in names}


def test_loaded_router_decides_and_explains(folder, embedder):
    model = RoutedChatModel.from_router(folder, models=models("small", "large"), embedder=embedder)
    assert isinstance(model.router, SupportsRoute)
    for topic, best in (("sum", "small"), ("poem", "large")):
        record = routing_decision(model.invoke(f"a {topic}, please"))
        assert (record["answered_by"], record["by"]) == (best, "policy")
        chosen, other = record["candidates"]
        assert chosen["quality"] > 0.8 > other["quality"]
        assert json.dumps(record)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
async def test_every_way(way, folder, embedder, collect):
    model = RoutedChatModel.from_router(folder, models=models("small", "large"), embedder=embedder)
    assert routing_decision(await collect(way, model, "a poem"))["answered_by"] == "large"


def test_default_declared_here_answers_what_the_router_does_not_know(folder, embedder):
    for default in ("small", "large"):
        model = RoutedChatModel.from_router(folder, models=models("small", "large"), embedder=embedder, default=default)
        record = routing_decision(model.invoke("zebra law"))
        assert (record["answered_by"], record["by"], record["fallback"]) == (default, "default", False)
        assert record["candidates"][0]["model"] == default


def test_router_without_a_log_gives_the_default(embedder):
    model = RoutedChatModel(
        models=models("small", "large"), router=Router(["small", "large"], embedder=embedder, default="large")
    )
    record = routing_decision(model.invoke("a sum"))
    assert (record["answered_by"], record["by"]) == ("large", "default")


def test_names_must_match(folder, embedder):
    with pytest.raises(ConfigError, match="'large'"):
        RoutedChatModel.from_router(folder, models=models("small"), embedder=embedder)
    with pytest.raises(UnknownModelError, match="'huge'"):
        RoutedChatModel.from_router(folder, models=models("small", "large", "huge"), embedder=embedder)


def test_no_router_there(tmp_path):
    with pytest.raises(ArtefactError):
        RoutedChatModel.from_router(tmp_path / "nothing", models=models("small"))


def test_prices_come_from_the_router_and_the_cards_given_here_come_first(folder, embedder):
    cards = [ModelCard(id="large", context_window=50)]
    model = RoutedChatModel.from_router(folder, models=models("small", "large"), embedder=embedder, cards=cards)
    assert routing_decision(model.invoke("a poem"))["attempts"][0]["cost"] == pytest.approx(15 * 9 / 1e6)
    assert routing_decision(model.invoke("a poem " + "word " * 100))["answered_by"] == "small"


def test_circle_closes(folder, embedder, tmp_path):
    """Users dislike the large model's poems; after the next fit the small one writes them."""
    with SqliteOutcomeLog(tmp_path / "second.db", store_prompts=True) as log:
        pair = models("small", "large")
        model = RoutedChatModel.from_router(folder, models=pair, embedder=embedder, outcome_log=log)
        for n in range(40):
            model.record_feedback(model.invoke(f"a poem {n}", model="large"), 0.0)
            model.record_feedback(model.invoke(f"a poem {n}", model="small"), 1.0)
        model.outcome_log.close()
        assert len(log) == 80
        again = Router(["small", "large"], embedder=embedder).fit(log)
        assert routing_decision(RoutedChatModel(models=pair, router=again).invoke("a poem"))["answered_by"] == "small"
