"""A team of three real local models: success and cost of one model for all, of the best fixed map, and of the allocator.

The runs are those that ship with the package (`scripts/team/README.md`): the allocator has learned from 330 runs whose models
were drawn at random, and is judged on other tasks. Run `python benchmarks/teams/real.py`.
"""

from __future__ import annotations

import numpy as np

from agentroute.collection import load_ladder, load_team, verify
from agentroute.evaluation import bootstrap, means
from agentroute.teams import NONE, RoleAllocator


def main() -> None:
    """Prints what was learned, and the table of arms."""
    found = load_team()
    cards = [entry.card for entry in found.entries]
    print(RoleAllocator(found.team, cards).fit(found.runs))
    by_task: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, float]] = {}
    for run in found.held:
        by_task[str(run.query.id), tuple(sorted(run.models.items()))] = (run.success or 0.0, run.cost or 0.0)
    tasks = sorted({run.query.id: run.query.task for run in found.held}.items(), key=str)
    columns = {}
    for arm, by_kind in found.arms.items():
        rows = [by_task.get((str(name), tuple(sorted(by_kind[str(kind)].items())))) for name, kind in tasks]
        if all(row is not None for row in rows):
            columns[arm] = np.array(rows, np.float64)
    strong = columns.get(cards[-1].id)
    ladder = load_ladder()
    for card in cards:
        # What the team has to beat: the same tasks, asked once.
        alone = ladder.answers[card.id]
        rows = []
        for name, _ in tasks:
            told = alone[str(name)]
            price = card.price.cost(told.usage) if card.price and told.usage else np.nan
            rows.append((verify(told.text, found.tasks[str(name)].verifier), price))
        columns[f"no team: {card.id}, asked once"] = np.array(rows, np.float64)
    print(f"\n{len(tasks)} held-out tasks, 95 % intervals by bootstrap over tasks; costs in millionths of a dollar, declared\n")
    print("| arm | success | cost | success against the largest everywhere |")
    print("|---|---|---|---|")
    for arm, values in columns.items():
        success, cost = bootstrap(means(values * [1.0, 1e6]), len(values))
        gain = "" if strong is None else str(bootstrap(means((values - strong)[:, :1]), len(values))[0])
        print(f"| {arm} | {success} | {cost.value:.0f} ({cost.low:.0f} to {cost.high:.0f}) | {gain} |")
    pairs = [(arm, arm.replace("allocator", "fixed map")) for arm in columns if arm.startswith("allocator")]
    pairs = [(one, other) for one, other in pairs if other in columns]
    for one, other in pairs:
        less = means((columns[one] - columns[other])[:, :1])
        # As many comparisons, each with so much less room for luck (Bonferroni).
        alone, together = (bootstrap(less, len(tasks), level=level)[0] for level in (0.95, 1.0 - 0.05 / len(pairs)))
        print(f"\n{one} less {other}: {alone}; all {len(pairs)} together: {together.low:+.3f} to {together.high:+.3f}")
    for arm, by_kind in found.arms.items():
        if arm.startswith("allocator"):
            print(f"\n{arm}:")
            for kind, models in by_kind.items():
                print(f"  {kind}: {', '.join(f'{role} {model}' for role, model in models.items() if model != NONE)}")


if __name__ == "__main__":
    main()
