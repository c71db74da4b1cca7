"""Each kind of verifier, right and wrong, and none of them raises on a strange answer."""

import math
import os
import select
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.collection import verify
from agentroute.collection._verifiers import check_verifier
from agentroute.errors import ConfigError

NUMBER = {"kind": "number", "expected": 85}
CHOICE = {"kind": "choice", "options": ["positive", "negative"], "expected": "negative"}
JSON = {"kind": "json", "expected": {"city": "Rome", "n": [1, 2]}}
PYTHON = {"kind": "python", "tests": ["assert f(2) == 4", "assert f(-1) == -2"], "timeout": 5}


@pytest.mark.parametrize(
    ("answer", "verifier", "score"),
    [
        ("85", NUMBER, 1),
        ("48 + 37 = 85.", NUMBER, 1),
        ("The sum is 85.0", NUMBER, 1),
        ("85 and then 86", NUMBER, 0),
        ("-85", NUMBER, 0),
        ("none", NUMBER, 0),
        ("9" * 5000, NUMBER, 0),
        ("", NUMBER, 0),
        ("1,250", {"kind": "number", "expected": 1250}, 1),
        ("9 - 20 = -11", {"kind": "number", "expected": -11}, 1),
        ("pages 3-5", {"kind": "number", "expected": 5}, 1),
        (" Rome. ", {"kind": "exact", "expected": "rome"}, 1),
        ("It is Rome", {"kind": "exact", "expected": "rome"}, 0),
        ("`cacti`", {"kind": "exact", "expected": ["cactuses", "cacti"]}, 1),
        ("STONE, RIVER", {"kind": "exact", "case": True, "expected": "STONE, RIVER"}, 1),
        ("Stone, River", {"kind": "exact", "case": True, "expected": "STONE, RIVER"}, 0),
        ("Negative, not positive", CHOICE, 1),
        ("positive rather than negative", CHOICE, 0),
        ("nonnegative", CHOICE, 0),
        ("It is in South America", {"kind": "choice", "options": ["America", "South America"], "expected": "South America"}, 1),
        ("It is C++, not C.", {"kind": "choice", "options": ["C", "C++"], "expected": "C++"}, 1),
        ("The capital is Rome!", {"kind": "contains", "expected": "Rome"}, 1),
        ("Romeo", {"kind": "contains", "expected": "Rome"}, 0),
        ("write to a.b@c.example.", {"kind": "contains", "expected": "a.b@c.example"}, 1),
        # Of marks alone nothing is left when they are stripped, and nothing is no answer.
        ("*", {"kind": "exact", "expected": "*"}, 1),
        (" * ", {"kind": "exact", "expected": "*"}, 1),
        ("", {"kind": "exact", "expected": "*"}, 0),
        ("!", {"kind": "exact", "expected": "*"}, 0),
        ("a\n!", {"kind": "lines", "expected": ["a", "*"]}, 0),
        ("one\n\n Two \n", {"kind": "lines", "expected": ["one", "two"]}, 1),
        ("two\none", {"kind": "lines", "expected": ["one", "two"]}, 0),
        ("one", {"kind": "lines", "expected": ["one", "two"]}, 0),
        ('```json\n{"n": [1, 2], "city": "Rome"}\n```', JSON, 1),
        ('{"city": "Rome"}', JSON, 0),
        ('{"city": ', JSON, 0),
        ('{"a": true}', {"kind": "json", "expected": {"a": 1}}, 0),
        ('{"a": 1}', {"kind": "json", "expected": {"a": True}}, 0),
        ('{"a": true}', {"kind": "json", "expected": {"a": True}}, 1),
        ('{"a": [1, {"b": false}]}', {"kind": "json", "expected": {"a": [1, {"b": 0}]}}, 0),
        ('{"a": [1.0, {"b": 0}]}', {"kind": "json", "expected": {"a": [1, {"b": 0}]}}, 1),
        ('{"a": [1, 2]}', {"kind": "json", "expected": {"a": [1]}}, 0),
        ("[" * 100_000 + "{" * 100_000, JSON, 0),
    ],
)
def test_right_and_wrong(answer, verifier, score):
    assert verify(answer, verifier) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("def f(x):\n    return 2 * x", 1),
        ("Sure:\n```python\ndef f(x):\n    return x + x\n```\nThat doubles it.", 1),
        ("```\ndef f(x): return 2 * x", 1),
        ("def f(x):\n    print('doubling')\n    return 2 * x", 1),
        # However the block is marked and placed, and whatever must stand first in a file.
        ("```python\nfrom __future__ import annotations\ndef f(x: Any):\n    return 2 * x\n```", 1),
        ("```python3\ndef f(x): return 2 * x\n```", 1),
        ("```Python\ndef f(x): return 2 * x\n```", 1),
        ("```python\r\ndef f(x):\r\n\r\n    return 2 * x\r\n```", 1),
        ("1. So:\n   ```python\n   def f(x):\n\n       return 2 * x\n   ```", 1),
        ("```bash\npip install f\n```\nthen\n```python\ndef f(x): return 2 * x\n```", 1),
        ("```\nf(2) = 4\n```\n```py\ndef f(x): return 2 * x\n```", 1),
        ("```bash\ncat f\n```\n```\ndef f(x): return 2 * x\n```", 1),
        ("```python\ndef f(x): return 3 * x\n```\n```python\ndef f(x): return 2 * x\n```", 0),
        ("def f(x):\n    return 3 * x", 0),
        ("def f(x:", 0),
        ("I cannot", 0),
        ("", 0),
        # Shortcuts: leaving before the tests with status 0, or printing what success may look like.
        ("import sys\nsys.exit(0)", 0),
        ("import os\nos._exit(0)", 0),
        ("print('agentroute: all tests passed')\nimport os\nos._exit(0)", 0),
        ("def f(x):\n    raise SystemExit", 0),
        ("import atexit, os\natexit.register(os._exit, 0)", 0),
        # Right, and then it ends badly.
        ("import atexit, os\natexit.register(os._exit, 3)\ndef f(x): return 2 * x", 0),
    ],
)
def test_code_is_run_and_cannot_leave_early(answer, score):
    assert verify(answer, PYTHON) == score


def test_code_that_never_ends_is_wrong():
    assert verify("def f(x):\n    while True: pass", {**PYTHON, "timeout": 0.5}) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit on memory")
def test_code_that_takes_a_gigabyte_is_wrong():
    assert verify("room = bytearray(1 << 30)\ndef f(x): return 2 * x", PYTHON) == 0.0
    assert verify("room = bytearray(1 << 27)\ndef f(x): return 2 * x", PYTHON) == 1.0


def test_code_that_prints_without_end_takes_no_memory_here():
    answer = "text = 'x' * 1_000_000\ndef f(x):\n    while True: print(text)"
    tracemalloc.start()
    try:
        assert verify(answer, {**PYTHON, "timeout": 0.5}) == 0.0
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_code_that_prints_much_and_is_right_is_right():
    assert verify("print('x' * 1_000_000)\ndef f(x): return 2 * x", PYTHON) == 1.0


@pytest.mark.parametrize("after", ["def f(x): return 2 * x", "while True: pass"])
def test_a_process_that_code_leaves_behind_is_killed(tmp_path, after):
    path = tmp_path / "alive"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    code = f"import os, time\nalive = os.open({str(path)!r}, os.O_WRONLY)\nif os.fork() == 0: time.sleep(30)\n{after}"
    assert verify(code, {**PYTHON, "timeout": 1.5}) == float("return" in after)
    try:
        # The end of the file comes when the last process that has it open is gone.
        assert select.select([end], [], [], 10)[0]
        assert os.read(end, 1) == b""
    finally:
        os.close(end)


def test_code_has_no_access_to_environment_and_files(monkeypatch, tmp_path):
    monkeypatch.setenv("A_SECRET", "value")
    reads = "import os\ndef f(x):\n    return 2 * x if not os.environ.get('A_SECRET') else None"
    assert verify(reads, PYTHON) == 1.0
    target = tmp_path / "file"
    verify(f"open({str(target)!r}, 'w').write('text')\ndef f(x): return 2 * x", PYTHON)
    assert not target.exists() or not target.read_bytes()


@given(st.text())
def test_no_answer_makes_a_verifier_raise(answer):
    specs = [
        NUMBER,
        CHOICE,
        JSON,
        {"kind": "exact", "expected": ["a"]},
        {"kind": "contains", "expected": "a"},
        {"kind": "lines", "expected": ["a"]},
    ]
    assert {verify(answer, spec) for spec in specs} <= {0.0, 1.0}


def test_code_with_strange_characters_does_not_raise():
    for answer in ("\0", "\ud800", "# -*- coding: utf-16 -*-", "\f\r\x1b"):
        assert verify(answer, PYTHON) == 0.0


@given(st.integers(-(10**12), 10**12), st.text(alphabet="abc .\n"))
def test_a_number_is_found_after_any_words(value, words):
    assert verify(f"{words} {value}", {"kind": "number", "expected": value}) == 1.0


@pytest.mark.parametrize(
    ("verifier", "says"),
    [
        ({"kind": "magic"}, "unknown verifier kind 'magic'"),
        ({}, "unknown verifier kind None"),
        ({"kind": "number"}, "needs the field 'expected'"),
        ({"kind": "choice", "expected": "a"}, "needs the field 'options'"),
        ({"kind": "number", "expected": "eight"}, "is not a int"),
        ({"kind": "number", "expected": True}, "is not a int"),
        ({"kind": "number", "expected": math.nan}, "not a finite number"),
        ({"kind": "number", "expected": math.inf}, "not a finite number"),
        ({"kind": "number", "expected": int("9" * 400)}, "expected=999.*… is not a finite number"),
        ({"kind": "number", "expected": 10**5000}, "thousands of digits"),
        ({"kind": "exact", "expected": ["a", 1]}, "must be strings"),
        ({"kind": "exact", "expected": []}, "must be strings"),
        ({"kind": "contains", "expected": ""}, "none of them empty"),
        ({"kind": "lines", "expected": [None]}, "must be strings"),
        ({"kind": "choice", "options": ["a", 1], "expected": "a"}, "must be strings"),
        ({"kind": "choice", "options": ["a"], "expected": 1}, "is not a str"),
        ({"kind": "choice", "options": ["a", "b"], "expected": "c"}, "none of its options"),
        ({"kind": ["number"]}, "unknown verifier kind"),
        ({"kind": "python", "tests": "assert True"}, "is not a list"),
        ({"kind": "python", "tests": [1]}, "must be strings"),
        ({**PYTHON, "timeout": 0}, "timeout=0 is not in"),
        ({**PYTHON, "timeout": -1.0}, "timeout=-1.0 is not in"),
        ({**PYTHON, "timeout": math.nan}, "timeout=nan is not in"),
        ({**PYTHON, "timeout": math.inf}, "timeout=inf is not in"),
        ({**PYTHON, "timeout": 10**400}, "is not in"),
        ({**PYTHON, "timeout": "5"}, "timeout='5' is not in"),
        ({**PYTHON, "timeout": True}, "timeout=True is not in"),
        ("number", "mapping"),
    ],
)
def test_an_incomplete_verifier_is_refused(verifier, says):
    with pytest.raises(ConfigError, match=says):
        check_verifier(verifier)
