"""What a session is told at its end, as a run keeps it."""

from __future__ import annotations

import json
from typing import Any

from agentroute.errors import ConfigError, DataError
from agentroute.teams._values import number

__all__ = ["finished", "plain", "share_of"]


def plain(name: str, value: Any) -> Any:
    """A value as a log keeps it: JSON, the numbers of NumPy and the like among it.

    Raises:
        DataError: It cannot.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=lambda number: number.item()))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"the metadata {name!r} of a run must be plain JSON values: {error}") from error


def finished() -> ConfigError:
    """The error of whoever calls a session that has been ended."""
    return ConfigError(
        "this session is finished: begin another one for the next run; await inside the `with` block, or give "
        "use_allocation(session) and finish it after"
    )


def share_of(success: object) -> float:
    """A success as a plain number.

    Raises:
        DataError: It is none in [0, 1].
    """
    share = float(success) if isinstance(success, bool) else number(success)
    if not 0.0 <= share <= 1.0:
        raise DataError(f"success={success!r} of a run is no number in [0, 1]: leave it None when it is unknown")
    return share
