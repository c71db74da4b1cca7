"""Deterministic checks of an answer: what makes a collected outcome a true one.

A verifier is plain data, so that it can travel in a task file: a mapping with `kind` and what that kind needs. Every
verifier gives 1.0 (right) or 0.0 (wrong); none of them raises on a strange answer.

| `kind` | needs | right when |
|---|---|---|
| `number` | `expected` | the last number of the answer equals `expected` |
| `exact` | `expected` (a string or list), `case` | the answer is one of them but for spaces, end marks and (unless `case`) case |
| `choice` | `options`, `expected` | the first option that the answer names is `expected` |
| `contains` | `expected` (a string or list) | the answer holds one of them as whole words |
| `lines` | `expected` (a list) | the answer's non-empty lines are these, in order, but for case |
| `json` | `expected` (a mapping) | the first JSON object of the answer equals it |
| `python` | `tests` (statements), `timeout` (seconds) | the answer's first Python block runs and passes the tests |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentroute.errors import ConfigError
from agentroute.scorers._code import code_of, passes
from agentroute.scorers._texts import last_number, plain

__all__ = ["check_verifier", "verify"]


def _accepted(spec: Mapping[str, Any]) -> list[str]:
    expected = spec["expected"]
    return [expected] if isinstance(expected, str) else list(expected)


def _number(answer: str, spec: Mapping[str, Any]) -> bool:
    return last_number(answer) == float(spec["expected"])


def _says(answer: str, expected: str, *, case: bool = False) -> bool:
    right = plain(expected, case=case)
    # What is expected may be nothing but marks, which an empty answer has not said.
    return plain(answer, case=case) == right if right else answer.strip() == expected.strip()


def _exact(answer: str, spec: Mapping[str, Any]) -> bool:
    return any(_says(answer, one, case=bool(spec.get("case"))) for one in _accepted(spec))


def _named(options: Sequence[str], answer: str) -> list[str]:
    pattern = "|".join(rf"(?<!\w){re.escape(one.casefold())}(?!\w)" for one in sorted(options, key=len, reverse=True))
    return re.findall(pattern, answer.casefold())


def _choice(answer: str, spec: Mapping[str, Any]) -> bool:
    named = _named(spec["options"], answer)
    return bool(named) and named[0] == spec["expected"].casefold()


def _contains(answer: str, spec: Mapping[str, Any]) -> bool:
    return bool(_named(_accepted(spec), answer))


def _lines(answer: str, spec: Mapping[str, Any]) -> bool:
    said, expected = [one for one in answer.splitlines() if one.strip()], _accepted(spec)
    return len(said) == len(expected) and all(map(_says, said, expected))


def _json(answer: str, spec: Mapping[str, Any]) -> bool:
    start = answer.find("{")
    if start < 0:
        return False
    try:
        value, _ = json.JSONDecoder().raw_decode(answer[start:])
        return _same(value, spec["expected"])
    except (ValueError, RecursionError):
        return False


def _same(value: Any, expected: Any) -> bool:
    """Equality of JSON values, in which true is not 1; 1 and 1.0 are the same number."""
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[key], expected[key]) for key in expected)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return isinstance(value, bool) is isinstance(expected, bool) and bool(value == expected)


def _python(answer: str, spec: Mapping[str, Any]) -> bool:
    return passes(code_of(answer), spec["tests"], float(spec.get("timeout", 5.0)))


_KINDS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "number": _number,
    "exact": _exact,
    "choice": _choice,
    "contains": _contains,
    "lines": _lines,
    "json": _json,
    "python": _python,
}


# What each kind needs, and of which type.
_STRINGS: tuple[type, ...] = (str, list)
_NEEDS: dict[str, dict[str, tuple[type, ...]]] = {
    "number": {"expected": (int, float)},
    "exact": {"expected": _STRINGS},
    "choice": {"options": (list,), "expected": (str,)},
    "contains": {"expected": _STRINGS},
    "lines": {"expected": (list,)},
    "json": {"expected": (dict,)},
    "python": {"tests": (list,)},
}
_MOST_SECONDS = 3600.0
_SHOWN = 80


def check_verifier(verifier: Mapping[str, Any], /) -> None:
    """Checks that a verifier is complete, before any model is asked.

    Raises:
        ConfigError: The kind is unknown, or a field that it needs is missing, of the wrong type or out of range.
    """
    if not isinstance(verifier, Mapping):
        raise ConfigError(f"a verifier is a mapping with a kind, not {verifier!r}")
    kind = verifier.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"unknown verifier kind {kind!r}: use one of {', '.join(_KINDS)}")
    for name, types in _NEEDS[kind].items():
        if name not in verifier:
            raise ConfigError(f"the {kind!r} verifier needs the field {name!r}")
        value = verifier[name]
        if not isinstance(value, types) or isinstance(value, bool):
            raise ConfigError(f"the {kind!r} verifier's {name}={_shown(value)} is not a {types[0].__name__}")
        if isinstance(value, str | list) and not (value and all(isinstance(one, str) and one for one in value)):
            raise ConfigError(f"the {kind!r} verifier's {name}={_shown(value)} must be strings, none of them empty")
    _check_ranges(kind, verifier)


def _check_ranges(kind: str, verifier: Mapping[str, Any]) -> None:
    """What the type alone does not say."""
    if kind == "number" and not _finite(verifier["expected"]):
        raise ConfigError(f"the 'number' verifier's expected={_shown(verifier['expected'])} is not a finite number")
    if kind == "choice" and verifier["expected"].casefold() not in {one.casefold() for one in verifier["options"]}:
        raise ConfigError(f"the 'choice' verifier's expected={_shown(verifier['expected'])} is none of its options")
    if kind == "python" and "timeout" in verifier:
        timeout = verifier["timeout"]
        numeric = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not (numeric and _finite(timeout) and 0.0 < timeout <= _MOST_SECONDS):
            raise ConfigError(f"the 'python' verifier's timeout={_shown(timeout)} is not in (0, {_MOST_SECONDS:g}] seconds")


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that no float holds
        return False


def _shown(value: object) -> str:
    """The value for one line of an error."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "(a number of thousands of digits)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def verify(answer: str, verifier: Mapping[str, Any]) -> float:
    """Scores one answer.

    Args:
        answer: The model's text.
        verifier: `kind` and what that kind needs; the module's table says what.

    Returns:
        1.0 when the answer is right, else 0.0.

    Raises:
        ConfigError: The verifier is not complete; see `check_verifier`.

    >>> verify("The sum is 85.", {"kind": "number", "expected": 85})
    1.0
    >>> verify("positive, I think", {"kind": "choice", "options": ["positive", "negative"], "expected": "negative"})
    0.0
    """
    check_verifier(verifier)
    return float(_KINDS[verifier["kind"]](answer, verifier))
