"""`agentroute route`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from agentroute.cli._data import exists
from agentroute.cli.figures import one_line, seconds, table_of, usd
from agentroute.router import Explanation, Router
from agentroute.types import Query

__all__ = ["run_route"]


def run_route(folder: Path, prompt: str, *, role: str | None, task: str | None, as_json: bool) -> None:
    """Prints the decision for one prompt, and what it rests on."""
    router = Router.load(exists(folder))
    explanation = router.explain(Query(text=prompt, role=role, task=task))
    if as_json:
        # Through Console.print it would be wrapped and coloured; a program reads this.
        Console().out(json.dumps(_plain(explanation), indent=2, ensure_ascii=False), highlight=False)
        return
    _show(Console(), explanation)


def _show(console: Console, explanation: Explanation) -> None:
    decision = explanation.decision
    console.print(f"[bold]{decision.model}[/bold] ({decision.by}): ", end="")
    console.print(decision.reason, markup=False, soft_wrap=True, highlight=False)
    rows = [
        (
            f"{place}. {candidate.model}",
            "?" if candidate.quality is None else f"{candidate.quality:.3f}",
            usd(candidate.cost),
            seconds(candidate.latency),
            "?" if candidate.utility is None else f"{candidate.utility:.3f}",
            f"{candidate.support:.1f}",
        )
        for place, candidate in enumerate(decision.candidates, 1)
    ]
    console.print(table_of("Candidates", ("model", "quality", "cost", "latency", "utility", "support"), rows))
    if explanation.neighbours:
        models = decision.ranking
        near = [
            (
                one_line(neighbour.query.text or neighbour.query.id or " ".join(neighbour.query.labels) or "(text not kept)", 60),
                f"{neighbour.similarity:.2f}",
                *(f"{neighbour.quality[model]:.2g}" if model in neighbour.quality else "" for model in models),
            )
            for neighbour in explanation.neighbours
        ]
        places = (f"{place}." for place in range(1, len(models) + 1))
        console.print(table_of("Nearest logged queries, and the candidates' quality", ("query", "similarity", *places), near))


def _plain(explanation: Explanation) -> dict[str, object]:
    decision = explanation.decision
    return {
        "model": decision.model,
        "by": decision.by,
        "reason": decision.reason,
        "supported": explanation.supported,
        "similarity": explanation.similarity,
        "candidates": [asdict(candidate) for candidate in decision.candidates],
        "neighbours": [
            {
                "id": neighbour.query.id,
                "text": neighbour.query.text or None,
                "labels": list(neighbour.query.labels),
                "similarity": neighbour.similarity,
                "quality": dict(neighbour.quality),
                "cost": dict(neighbour.cost),
            }
            for neighbour in explanation.neighbours
        ],
    }
