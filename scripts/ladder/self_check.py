"""Asks each cheaper model whether its own answer is right: the self-check that ships with the log.

Run `python scripts/ladder/self_check.py checks.jsonl`; stop and go on at will. The prompt shows solved examples and asks for
yes or no, as AutoMix does (Madaan et al. 2023, arXiv:2310.12963, section 3.1). Instead of many samples it reads the
probabilities of the first token, whose share of "Yes" is what the share among infinitely many samples would be.
"""

from __future__ import annotations

import json
import math
import sys
import urllib.request
from pathlib import Path
from typing import Any

from agentroute.collection import load_ladder
from agentroute.local import LocalServer

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")
"""Those from which a cascade can climb."""

PROMPT = """Check answers. Say Yes when the answer is right and No when it is wrong.

Question: What is 12 + 9?
Answer: 21
Right? Yes

Question: What is the capital of Austria?
Answer: The capital of Austria is Prague.
Right? No

Question: Is a whale a fish? Answer yes or no.
Answer: No.
Right? Yes

Question: What is 7 * 8?
Answer: 7 * 8 is 54
Right? No

Question: {question}
Answer: {answer}
Right?"""


def ask(server: LocalServer, prompt: str) -> dict[str, Any]:
    """One token of answer with the twenty likeliest tokens at its place."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
    }
    request = urllib.request.Request(  # noqa: S310  # the loopback address of our own server
        f"{server.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310  # as above
        found: dict[str, Any] = json.loads(reply.read())
    return found


def share_of_yes(reply: dict[str, Any]) -> float | None:
    """Chance of yes against no; `None` = the model said neither."""
    chances = {"yes": 0.0, "no": 0.0}
    for one in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        word = one["token"].strip().casefold()
        if word in chances:
            chances[word] += math.exp(one["logprob"])
    total = sum(chances.values())
    return chances["yes"] / total if total else None


def main(path: str) -> None:
    """Asks what the file does not hold yet, and appends each reply before the next question."""
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {(row["query_id"], row["model"]) for row in map(json.loads, lines)}
    ladder = load_ladder()
    for model in MODELS:
        todo = [name for name in sorted(ladder.tasks) if (name, model) not in done]
        if not todo:
            continue
        with LocalServer(model) as server, file.open("a", encoding="utf-8") as out:
            for count, name in enumerate(todo, 1):
                prompt = PROMPT.format(question=ladder.tasks[name].prompt, answer=ladder.answers[model][name].text[:1000])
                reply = ask(server, prompt)
                usage = reply["usage"]
                row = {
                    "query_id": name,
                    "model": model,
                    "self_check": share_of_yes(reply),
                    "input_tokens": usage["prompt_tokens"],
                    "output_tokens": usage["completion_tokens"],
                }
                out.write(json.dumps(row) + "\n")
                out.flush()
                if count % 100 == 0:
                    print(f"{model}: {count} of {len(todo)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
