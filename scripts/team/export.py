"""Turns the recorded runs into what ships: `agentroute/data/team-runs.jsonl.gz` and `team-arms.json`.

Run `python scripts/team/export.py FOLDER`. Rows are ordered, and the archive has no date: the same runs give the same bytes.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "agentroute" / "data"


def main(folder: str) -> None:
    """Writes both files."""
    rows = [json.loads(line) for line in (Path(folder) / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: (row["part"] != "random", row["task"], json.dumps(row["assignment"])))
    body = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    (DATA / "team-runs.jsonl.gz").write_bytes(gzip.compress(body.encode(), mtime=0))
    arms = json.loads((Path(folder) / "arms.json").read_text(encoding="utf-8"))
    (DATA / "team-arms.json").write_text(json.dumps(arms, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows)} runs, {len(arms)} arms")


if __name__ == "__main__":
    main(sys.argv[1])
