"""Scorers on a real local model, over the OpenAI-compatible endpoint."""

import json
import math
import os
import urllib.request

import pytest

from agentroute.local import LocalServer, ModelUnavailableError, resolve
from agentroute.scorers import CANARIES, LLMJudge, LogprobScorer, SelfVerification, check_canaries
from agentroute.types import Query, Reply, TokenLogprob

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.local


class Endpoint:
    """Asks a chat endpoint, as an adapter would."""

    def __init__(self, server):
        self.server = server
        self.asked = 0

    def ask(self, prompt, /, *, samples=1, max_tokens=256, temperature=0.0, logprobs=False, schema=None):
        return [self._once(prompt, max_tokens, temperature, logprobs, schema) for _ in range(samples)]

    async def aask(self, prompt, /, **options):
        return self.ask(prompt, **options)

    def _once(self, prompt, max_tokens, temperature, logprobs, schema):
        self.asked += 1
        body = {
            "model": self.server.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": 10}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.server.api_key}"}
        request = urllib.request.Request(f"{self.server.base_url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            choice = json.load(response)["choices"][0]
        tokens = [
            TokenLogprob(
                token=one["token"],
                logprob=one["logprob"],
                top={other["token"]: other["logprob"] for other in one["top_logprobs"]},
            )
            for one in (choice.get("logprobs") or {}).get("content") or []
        ]
        return Reply(
            text=choice["message"]["content"] or "", tokens=tuple(tokens) or None, finish=choice["finish_reason"], cost=0.0
        )


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
        yield Endpoint(server)


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
