"""A diagnosis as JSON, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from agentroute.evaluation import RoutingDiagnosis

__all__ = ["as_plain", "report_json"]


def report_json(diagnosis: RoutingDiagnosis) -> str:
    """The whole diagnosis as JSON, indented, with the names of its attributes as keys.

    What was not observed (NaN) is `null`; so is a willingness to pay of infinity, which means quality alone. The arrays behind
    the evaluation (`Evaluation.replay`) are left out.

    Args:
        diagnosis: What `diagnose` found.
    """
    from agentroute import __version__

    return json.dumps({"agentroute": __version__, **as_plain(diagnosis)}, indent=2, ensure_ascii=False, allow_nan=False)


def as_plain(value: Any) -> Any:
    """A value of dataclasses as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value) if field.name != "replay"}
    if isinstance(value, Mapping):
        return {_text(name): as_plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [as_plain(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(map(as_plain, value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):  # numpy's, too
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool) else int(value)


def _text(value: Any) -> str:
    """Text that can be encoded: a log may hold half of a surrogate pair."""
    return str(value).encode("utf-8", "replace").decode()
