"""What options can be set to; light, since every command reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["By", "Seen"]


class By(StrEnum):
    """How the log is parted into what is learned from and what is judged by."""

    QUERY = "query"
    TASK = "task"
    TIME = "time"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Which columns say what can be seen of an answer; `None` = the usual ones, where they are there.

    Attributes:
        signals: Names, with commas between them.
        answer: Of the text.
        score_cost: Of what scoring the answer cost.
    """

    signals: str | None = None
    answer: str | None = None
    score_cost: str | None = None

    @property
    def given(self) -> bool:
        """Whether any of them is named."""
        return any(one is not None for one in (self.signals, self.answer, self.score_cost))
