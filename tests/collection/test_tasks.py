"""Task files: what is read, and one clear error for each way to get it wrong."""

import gzip
import json
import math

import pytest

from agentroute.collection import read_tasks
from agentroute.errors import ConfigError

GOOD = {"id": "a", "prompt": "1 + 1?", "verifier": {"kind": "number", "expected": 2}, "task": "sum", "max_tokens": 8}


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_reads_plain_and_gzipped(tmp_path):
    plain = write(tmp_path / "tasks.jsonl", GOOD, "", {"id": "b", "prompt": "é?", "verifier": GOOD["verifier"]})
    packed = tmp_path / "tasks.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = read_tasks(plain)
    assert read_tasks(packed) == [first, second]
    assert (first.id, first.prompt, first.task, first.max_tokens) == ("a", "1 + 1?", "sum", 8)
    assert (second.task, second.max_tokens) == (None, 256)
    assert (first.query.key(), first.query.text, first.query.labels) == ("a", "1 + 1?", ("task=sum",))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{not json", "not JSON"),
        ("[1]", "not list"),
        ({**GOOD, "promt": ""}, "unknown field 'promt'"),
        ({"id": "b", "prompt": "?"}, "'verifier' is missing"),
        ({**GOOD, "id": ""}, "id must be"),
        ({**GOOD, "id": 3}, "id must be"),
        ({**GOOD, "task": 3}, "task must be"),
        ({**GOOD, "max_tokens": 0}, "max_tokens must be"),
        ({**GOOD, "max_tokens": True}, "max_tokens must be"),
        ({**GOOD, "verifier": {"kind": "x"}}, "unknown verifier kind"),
        ({**GOOD, "verifier": {"kind": "choice", "options": ["a", 2], "expected": "a"}}, "options=.* must be strings"),
        ({**GOOD, "verifier": {"kind": "python", "tests": ["assert f()"], "timeout": 0}}, "timeout=0 is not in"),
        ({**GOOD, "verifier": {"kind": "number", "expected": math.inf}}, "expected=inf is not a finite number"),
        ({**GOOD}, "a second task is called 'a'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, row, says):
    path = write(tmp_path / "tasks.jsonl", GOOD, row)
    with pytest.raises(ConfigError, match=says) as caught:
        read_tasks(path)
    assert f"{path}:2: " in str(caught.value)


def test_files_that_are_no_task_files(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-9])
    (tmp_path / "empty").write_text("\n")
    packed = bytearray(gzip.compress(json.dumps(GOOD).encode()))
    packed[10:14] = b"\xff\xff\xff\xff"
    (tmp_path / "flipped.jsonl.gz").write_bytes(packed)
    broken = "not a file of JSON lines"
    for name, says in (("binary", broken), ("cut.gz", broken), ("flipped.jsonl.gz", broken), ("empty", "no task")):
        with pytest.raises(ConfigError, match=says):
            read_tasks(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_tasks(tmp_path / "absent")
    (tmp_path / "plain.gz").write_text("not gzip")
    with pytest.raises(OSError, match="gzip"):
        read_tasks(tmp_path / "plain.gz")
