"""Scorers on a real local model, over the OpenAI-compatible endpoint."""

import math
import os

import pytest

from agentroute.collection import ChatEndpoint
from agentroute.local import LocalServer, ModelUnavailableError, resolve
from agentroute.scorers import CANARIES, LLMJudge, LogprobScorer, SelfVerification, check_canaries
from agentroute.types import Price, Query, Reply

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.local


class Endpoint(ChatEndpoint):
    """Counts how often it is asked."""

    asked = 0

    def ask(self, prompt, /, **options):
        self.asked += 1
        return super().ask(prompt, **options)


@pytest.fixture(scope="module")
def endpoint():
    """The smallest real model, fetched when absent. Where it cannot be had, CI fails and others skip."""
    try:
        resolve("smollm2-135m")
    except ModelUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with LocalServer("smollm2-135m") as server:
        yield Endpoint(server.base_url, server.model, api_key=server.api_key, price=Price(input=0.0, output=0.0))


def test_a_real_answer_carries_what_the_scorers_read(endpoint):
    query = Query(text="What is the capital of Peru? Answer with only the city name.")
    [reply] = endpoint.ask(query.text, max_tokens=8, logprobs=True)
    assert "Lima" in reply.text
    mean, least, margin, entropy = (
        LogprobScorer(statistic).score(query, reply).value for statistic in ("mean", "min", "margin", "entropy")
    )
    assert 0 < least <= mean <= 1
    assert mean == pytest.approx(math.prod(math.exp(token.logprob) for token in reply.tokens) ** (1 / len(reply.tokens)))
    assert 0 < margin <= 1
    assert 0 < entropy <= 1


def test_a_real_model_verifies_by_the_first_token_of_one_reply(endpoint):
    asked = endpoint.asked
    verify = SelfVerification(endpoint, logprobs=True, seed=0, unreadable=None)
    score = verify.score(Query(text="What is the capital of Peru?"), Reply(text="Lima"))
    assert endpoint.asked == asked + 1
    assert 0 <= score.value <= 1
    # Its first token is one of the two words in a part of all samples only, as so small a model hardly follows instructions;
    # of 0.5 and 1.5 billion parameters it is .98 and .99.
    assert 0 < score.signals["self_verification.readable"] <= 1
    assert score.cost == 0.0


def test_a_real_model_grades_within_the_schema_and_canaries_find_out_that_it_cannot_judge(endpoint):
    report = check_canaries(LLMJudge(endpoint, seed=0, unreadable=None), [CANARIES[3]])
    [(canary, score)] = report.failed  # it likes trains
    assert canary.answer == "I like trains."
    assert score.signals["judge.readable"] == 1.0
