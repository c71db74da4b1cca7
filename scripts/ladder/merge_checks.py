"""Adds what `self_check.py` has collected to the log that ships: the self-check of each answer, and what it cost.

Run `python scripts/ladder/merge_checks.py checks.jsonl ...`. The same files give the same bytes; a second run changes nothing.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "agentroute" / "data" / "ladder.jsonl.gz"


def main(*paths: str) -> None:
    """Writes the log anew, with `self_check` and `self_check_usd` in the rows that were checked."""
    lines = [line for path in paths for line in Path(path).read_text(encoding="utf-8").splitlines()]
    checks = {(row["query_id"], row["model"]): row for row in map(json.loads, lines)}
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        check = checks.get((row["query_id"], row["model"]))
        if check is not None:
            row |= {"self_check": check["self_check"], "self_check_usd": round(check["self_check_usd"], 9)}
    packed = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    DATA.write_bytes(gzip.compress(packed, compresslevel=9, mtime=0))
    found = sum("self_check" in row for row in rows)
    print(f"{found} of {len(rows)} rows have a self-check; {DATA.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
