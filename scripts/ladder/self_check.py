"""Asks each cheaper model whether its own answer is right: the self-check that ships with the log.

Run `python scripts/ladder/self_check.py checks.jsonl [MODEL]`; stop and go on at will, and run several models side by side with
a file each. The prompt is that of `agentroute/data/self-check.txt`, which `SelfVerification(template=...)` takes, too. Of the
first token's twenty likeliest alternatives only the whole words count, in any case; the scorer also counts their pieces, which
moves a check by about .02 at most.
"""

from __future__ import annotations

import json
import math
import sys
from importlib import resources
from pathlib import Path

from agentroute.collection import ChatEndpoint, load_ladder
from agentroute.local import LocalServer
from agentroute.types import Reply

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")
"""Those from which a cascade can climb."""


TEMPLATE = (resources.files("agentroute") / "data" / "self-check.txt").read_text(encoding="utf-8")


def share_of_yes(reply: Reply) -> float | None:
    """Chance of yes against no; `None` = the model said neither."""
    chances = {"yes": 0.0, "no": 0.0}
    for token, logprob in (reply.tokens or ())[0].top.items():
        word = token.strip().casefold()
        if word in chances:
            chances[word] += math.exp(logprob)
    total = sum(chances.values())
    return round(chances["yes"] / total, 6) if total else None


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
            for count, name in enumerate(todo, 1):
                said = ladder.answers[model][name].text[:1000]
                prompt = TEMPLATE.replace("{question}", ladder.tasks[name].prompt).replace("{answer}", said)
                [reply] = asker.ask(prompt, max_tokens=1, logprobs=True)
                row = {"query_id": name, "model": model, "self_check": share_of_yes(reply), "self_check_usd": reply.cost}
                out.write(json.dumps(row) + "\n")
                out.flush()
                if count % 100 == 0:
                    print(f"{model}: {count} of {len(todo)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
