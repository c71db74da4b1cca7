"""How fast outcomes are logged: `python benchmarks/outcomes/append_rate.py [rows]`.

Prints rows a second of single and of grouped commits at both durabilities, and what a caller waits for when its outcome is
only queued. Figures depend on the disk and on what else the machine does; nothing is asserted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, TypeAlias

from agentroute.outcomes import QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.types import Outcome, Query

GROUP = 100
Durability: TypeAlias = Literal["process", "power"]


def made(rows: int) -> list[Outcome]:
    return [
        Outcome(
            query=Query(text=f"question {row // 4}", task="demo"), model=f"model-{row % 4}", quality=0.5, cost=1e-4, latency=0.8
        )
        for row in range(rows)
    ]


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        counts: dict[Durability, int] = {"process": rows, "power": max(rows // 20, GROUP)}
        for durability, count in counts.items():
            with SqliteOutcomeLog(Path(folder, f"single-{durability}.sqlite"), durability=durability) as log:
                outcomes = made(count)
                start = time.perf_counter()
                for outcome in outcomes:
                    log.append(outcome)
                print(f"{durability:8} append        {count / (time.perf_counter() - start):10,.0f} rows/s")
            with SqliteOutcomeLog(Path(folder, f"group-{durability}.sqlite"), durability=durability) as log:
                outcomes = made(rows)
                start = time.perf_counter()
                for first in range(0, rows, GROUP):
                    log.extend(outcomes[first : first + GROUP])
                print(f"{durability:8} extend({GROUP})   {rows / (time.perf_counter() - start):10,.0f} rows/s")
                start = time.perf_counter()
                read = sum(1 for _ in log)
                print(f"{durability:8} iterate       {read / (time.perf_counter() - start):10,.0f} rows/s")

        with SqliteOutcomeLog(Path(folder, "queued.sqlite")) as log, QueuedOutcomeLog(log) as queued:
            waits = []
            for outcome in made(min(rows, 10_000)):
                start = time.perf_counter_ns()
                queued.append(outcome)
                waits.append((time.perf_counter_ns() - start) / 1e3)
            queued.flush()
            cuts = statistics.quantiles(waits, n=100)
            print(f"queued   append   p50 {cuts[49]:.1f} us   p99 {cuts[98]:.1f} us   dropped {queued.dropped}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
