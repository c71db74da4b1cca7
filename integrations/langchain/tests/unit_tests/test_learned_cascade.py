"""A cascade by a router that has learned from a log when a further call pays."""

import json
import random

import pytest

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting
from agentroute.errors import ConfigError, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import as_scorer
from langchain_agentroute import CascadeChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

PLACES = "France Peru Japan Kenya Norway Egypt Chile Nepal Ghana Spain Cuba Poland Greece Kuwait Fiji Laos Mali Oman Togo".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the same questions the small model knows half, and the signal says which; the large model knows all, and is dear."""
    place = tmp_path_factory.mktemp("cascade")
    draws = random.Random(0)  # no secret
    lines = []
    for country in PLACES:
        for word in ("capital", "river", "king", "coast", "anthem"):
            prompt = f"What is the {word} of {country}?"
            knows = draws.random() < 0.5
            lines.append(
                {
                    "prompt": prompt,
                    "model": "small",
                    "score": int(knows),
                    "cost_usd": 1e-5,
                    "signals": {"told": 0.9 if knows else 0.1},
                }
            )
            lines.append({"prompt": prompt, "model": "large", "score": 1, "cost_usd": 1e-3, "signals": {"told": 0.9}})
    file = place / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = AnswerTable.from_jsonl(file, signals=["told"])
    CascadeRouter(["small", "large"], policy=CascadeRouting(budget=5.5e-4)).fit(answers).save(place / "router")
    return place / "router"


def told(reply):
    return 0.1 if "sorry" in reply.text else 0.9


def cascade(folder, *replies, **kwargs):
    models = {"small": ScriptedChatModel(model_name="small", replies=replies), "large": ScriptedChatModel(model_name="large")}
    return CascadeChatModel.from_router(folder, models=models, judge=as_scorer(told, name="told"), **kwargs)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_it_climbs_where_the_answer_says_so(folder, asynchronous):
    model = cascade(folder, "The Seine.", "I am sorry, I do not know.")
    for expected in ("small", "large"):
        asked = "What is the river of France?"
        message = await model.ainvoke(asked) if asynchronous else model.invoke(asked)
        record = json.loads(json.dumps(routing_decision(message)))
        assert (record["model"], record["answered_by"]) == ("small", expected)
        assert record["candidates"][0]["quality"] == pytest.approx(0.5, abs=0.2)
        assert record["reason"].startswith("planned by")


def test_who_knows_nothing_leaves_it_to_the_default(folder):
    record = routing_decision(cascade(folder).invoke("zxcv qwer uiop 12345 {}[]"))
    assert len(record["attempts"]) == 1
    assert "default" in record["reason"]


def test_every_attempt_is_logged(folder):
    log = MemoryOutcomeLog()
    model = cascade(folder, "I am sorry.", outcome_log=log)
    model.invoke("What is the king of Spain?")
    model.outcome_log.flush(1.0)
    assert [(one.model, one.metadata.get("signals"), one.metadata["accepted"]) for one in log] == [
        ("small", {"told": 0.1}, False),
        ("large", None, True),
    ]
    assert all(one.query.embedding is not None for one in log)


def test_what_does_not_fit_the_router(folder):
    small, large = ScriptedChatModel(model_name="small"), ScriptedChatModel(model_name="large")
    with pytest.raises(ConfigError, match="reads 'told'"):
        CascadeChatModel.from_router(folder, models=[small, large])
    with pytest.raises(ConfigError, match="may choose 'large'"):
        CascadeChatModel.from_router(folder, models=[small], judge=told)
    with pytest.raises(UnknownModelError):
        CascadeChatModel.from_router(folder, models=[small, large, ScriptedChatModel(model_name="other")], judge=told)
