"""Deterministic checks of an answer: what makes a collected outcome a true one.

A verifier is plain data, so that it can travel in a task file: a mapping with `kind` and what that kind needs. Every
verifier gives 1.0 (right) or 0.0 (wrong); none of them raises on a strange answer.

| `kind` | needs | right when |
|---|---|---|
| `number` | `expected` | the last number of the answer equals `expected` |
| `exact` | `expected` (a string or a list of accepted strings), `case` | the answer equals it, but for spaces, end marks and, unless `case` is true, case |
| `choice` | `options`, `expected` | the first option that the answer names is `expected` |
| `contains` | `expected` (a string or list) | the answer holds one of them as whole words |
| `lines` | `expected` (a list) | the answer's non-empty lines are these, in order, but for case |
| `json` | `expected` (a mapping) | the first JSON object of the answer equals it |
| `python` | `tests` (statements), `timeout` (seconds) | the answer's first code block runs and passes the tests |
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentroute.errors import ConfigError

__all__ = ["verify"]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_CODE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def _plain(text: str, *, case: bool = False) -> str:
    plain = " ".join(text.strip().strip("`*\"'.!").split())
    return plain if case else plain.casefold()


def _accepted(spec: Mapping[str, Any]) -> list[str]:
    expected = spec["expected"]
    return [expected] if isinstance(expected, str) else [str(one) for one in expected]


def _number(answer: str, spec: Mapping[str, Any]) -> bool:
    found = _NUMBER.findall(answer)
    return bool(found) and float(found[-1].replace(",", "")) == float(spec["expected"])


def _exact(answer: str, spec: Mapping[str, Any]) -> bool:
    case = bool(spec.get("case"))
    return _plain(answer, case=case) in {_plain(one, case=case) for one in _accepted(spec)}


def _named(options: Sequence[str], answer: str) -> list[str]:
    pattern = "|".join(rf"\b{re.escape(one.casefold())}\b" for one in sorted(options, key=len, reverse=True))
    return re.findall(pattern, answer.casefold())


def _choice(answer: str, spec: Mapping[str, Any]) -> bool:
    named = _named(spec["options"], answer)
    return bool(named) and named[0] == str(spec["expected"]).casefold()


def _contains(answer: str, spec: Mapping[str, Any]) -> bool:
    return bool(_named(_accepted(spec), answer))


def _lines(answer: str, spec: Mapping[str, Any]) -> bool:
    return [_plain(one) for one in answer.splitlines() if one.strip()] == [_plain(one) for one in _accepted(spec)]


def _json(answer: str, spec: Mapping[str, Any]) -> bool:
    start = answer.find("{")
    if start < 0:
        return False
    try:
        value, _ = json.JSONDecoder().raw_decode(answer[start:])
    except (ValueError, RecursionError):
        return False
    return bool(value == spec["expected"])


# The child limits itself before it compiles the answer: processor time, memory, no new files of any size, few open files.
_CHILD = """
import resource, sys
seconds = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
"""


def _python(answer: str, spec: Mapping[str, Any]) -> bool:
    """Runs the answer's code and the tests in a subprocess with an empty environment, a limit on time and on memory.

    These limits stop accidents, not an attacker: collect answers of models that you do not trust inside a container.
    """
    block = _CODE.search(answer)
    code = block.group(1) if block else answer
    tests = "\n".join(spec["tests"])
    timeout = float(spec.get("timeout", 5.0))
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-", str(int(timeout) + 1)],
                input=f"{_CHILD}\n{code}\n{tests}\nprint('agentroute: all tests passed')\n".encode("utf-8", "replace"),
                cwd=folder,
                env={},
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except (subprocess.TimeoutExpired, ValueError):
            return False
    return done.returncode == 0 and done.stdout.endswith(b"agentroute: all tests passed\n")


_KINDS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "number": _number,
    "exact": _exact,
    "choice": _choice,
    "contains": _contains,
    "lines": _lines,
    "json": _json,
    "python": _python,
}


def verify(answer: str, verifier: Mapping[str, Any]) -> float:
    """Scores one answer.

    Args:
        answer: The model's text.
        verifier: `kind` and what that kind needs; the module's table says what.

    Returns:
        1.0 when the answer is right, else 0.0.

    Raises:
        ConfigError: The kind is unknown, or a field that it needs is missing.

    >>> verify("The sum is 85.", {"kind": "number", "expected": 85})
    1.0
    >>> verify("positive, I think", {"kind": "choice", "options": ["positive", "negative"], "expected": "negative"})
    0.0
    """
    kind = verifier.get("kind")
    check = _KINDS.get(str(kind))
    if check is None:
        msg = f"unknown verifier kind {kind!r}: use one of {', '.join(_KINDS)}"
        raise ConfigError(msg)
    try:
        return float(check(answer, verifier))
    except KeyError as error:
        msg = f"the {kind!r} verifier needs the field {error.args[0]!r}"
        raise ConfigError(msg) from error
