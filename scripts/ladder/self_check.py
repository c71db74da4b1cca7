"""Asks each cheaper model whether its own answer is right: the self-check that ships with the log.

Run `python scripts/ladder/self_check.py checks.jsonl [MODEL]`; stop and go on at will, and run several models side by side with
a file each. It is the scorer `SelfVerification` that asks, with the prompt in `agentroute/data/self-check.txt`, one token a
check: a live cascade that asks with it sees what the log holds.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

from agentroute.collection import ChatEndpoint, load_ladder
from agentroute.local import LocalServer
from agentroute.scorers import SelfVerification
from agentroute.types import Reply

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")
"""Those from which a cascade can climb."""


TEMPLATE = (resources.files("agentroute") / "data" / "self-check.txt").read_text(encoding="utf-8")


def main(path: str, *wanted: str) -> None:
    """Asks what the file does not hold yet, and appends each score before the next question."""
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {(row["query_id"], row["model"]) for row in map(json.loads, lines)}
    ladder = load_ladder()
    prices = {entry.card.id: entry.card.price for entry in ladder.entries}
    for model in wanted or MODELS:
        todo = [name for name in sorted(ladder.tasks) if (name, model) not in done]
        if not todo:
            continue
        with LocalServer(model) as server, file.open("a", encoding="utf-8") as out:
            asker = ChatEndpoint(server.base_url, server.model, api_key=server.api_key, price=prices[model])
            scorer = SelfVerification(
                asker, template=TEMPLATE, words=("Yes", "No"), max_tokens=1, limit=1000, logprobs=True, name="self_check"
            )
            for count, name in enumerate(todo, 1):
                score = scorer.score(ladder.tasks[name].query, Reply(text=ladder.answers[model][name].text))
                row = {"query_id": name, "model": model, "self_check": round(score.value, 6), "self_check_usd": score.cost}
                out.write(json.dumps(row) + "\n")
                out.flush()
                if count % 100 == 0:
                    print(f"{model}: {count} of {len(todo)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
