"""Seconds and memory of `import agentroute`, beside an empty interpreter and every public name. Median of several runs."""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 9
CASES = {
    "empty interpreter": "pass",
    "import agentroute": "import agentroute",
    "every public name": "import agentroute; [getattr(agentroute, name) for name in agentroute.__all__]",
    "first vector": "import agentroute; agentroute.StaticEmbedder().embed(['hello'])",
}
PROBE = """
import time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:  # Linux; ru_maxrss would be that of the process that started this one
    print(seconds, next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def main() -> None:
    print(f"{'case':20} {'seconds':>8} {'peak RSS, MiB':>14}")
    for case, statement in CASES.items():
        command = [sys.executable, "-c", PROBE.format(statement=statement)]
        rows = [
            [float(value) for value in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
            for _ in range(RUNS)
        ]
        seconds, peak = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{case:20} {seconds:8.3f} {peak / 2**10:14.1f}")


if __name__ == "__main__":
    main()
