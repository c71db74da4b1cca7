"""What options can be set to; light, since every command reads it."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["By"]


class By(StrEnum):
    """How the log is parted into what is learned from and what is judged by."""

    QUERY = "query"
    TASK = "task"
    TIME = "time"
    MODEL = "model"
