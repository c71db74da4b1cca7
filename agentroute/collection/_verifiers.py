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
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentroute.collection._code import code_of, passes
from agentroute.errors import ConfigError

__all__ = ["check_verifier", "verify"]

# A hyphen after a word or a digit joins ("3-5", "x-2"); elsewhere it is a sign.
_NUMBER = re.compile(r"(?:(?<!\w)-)?\d[\d,]*(?:\.\d+)?")


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


def check_verifier(verifier: Mapping[str, Any], /) -> None:
    """Checks that a verifier is complete, before any model is asked.

    Raises:
        ConfigError: The kind is unknown, or a field that it needs is missing or of the wrong type.
    """
    if not isinstance(verifier, Mapping):
        raise ConfigError(f"a verifier is a mapping with a kind, not {verifier!r}")
    kind = verifier.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"unknown verifier kind {kind!r}: use one of {', '.join(_KINDS)}")
    for name, types in _NEEDS[str(kind)].items():
        if name not in verifier:
            raise ConfigError(f"the {kind!r} verifier needs the field {name!r}")
        if not isinstance(verifier[name], types):
            raise ConfigError(f"the {kind!r} verifier's {name}={verifier[name]!r} is not a {types[0].__name__}")


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
