"""What calls have taken, added up and shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from agentroute.types import Usage

__all__ = ["LedgerRow", "Spending", "markdown_of"]

N = TypeVar("N", int, float, Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What some calls have taken. What no call told is `None`, never 0.

    Attributes:
        calls: Calls of a model, those that gave no answer included.
        failed: Those of them that ended with an error.
        interrupted: Those of them whose reader left before the end of the answer.
        untold: Those of them whose tokens are unknown.
        unpriced: Those of them whose cost is unknown.
        usage: Tokens of the calls that told them; `None` = none did.
        cost: USD of the calls whose cost is known; `None` = of none.
        answered: Calls that came to the end of their answer.
        seconds: Seconds that these took together; `None` = there are none. A stream takes as long as its reader.
    """

    calls: int = 0
    failed: int = 0
    interrupted: int = 0
    untold: int = 0
    unpriced: int = 0
    usage: Usage | None = None
    cost: float | None = None
    answered: int = 0
    seconds: float | None = None

    @property
    def latency(self) -> float | None:
        """Seconds of an answered call, on average; `None` = there is none."""
        return None if self.seconds is None or not self.answered else self.seconds / self.answered

    def __add__(self, other: Spending) -> Spending:
        """Both together."""
        return Spending(
            calls=self.calls + other.calls,
            failed=self.failed + other.failed,
            interrupted=self.interrupted + other.interrupted,
            untold=self.untold + other.untold,
            unpriced=self.unpriced + other.unpriced,
            usage=_sum(self.usage, other.usage),
            cost=_sum(self.cost, other.cost),
            answered=self.answered + other.answered,
            seconds=_sum(self.seconds, other.seconds),
        )


def _sum(one: N | None, other: N | None) -> N | None:
    """The sum of what is known."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one model has taken for one role in one run.

    Attributes:
        run: The run; `None` = the calls belong to none.
        role: The agent role; `None` = none was named, as with LLMs that are not routed.
        model: The model.
        spent: What its calls have taken.
    """

    run: str | None
    role: str | None
    model: str
    spent: Spending


def markdown_of(rows: Iterable[LedgerRow]) -> str:
    """Rows as a table for people; figures that cover only some of the calls have a mark."""
    lines = [
        "| run | role | model | calls | failed | tokens in | tokens out | USD | s/call |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    partly = False
    for row in rows:
        spent = row.spent
        partly = partly or spent.untold > 0 or spent.unpriced > 0
        told = "+" if spent.untold else ""
        cells = [
            _name(row.run),
            _name(row.role),
            _name(row.model),
            str(spent.calls),
            str(spent.failed),
            "unknown" if spent.usage is None else f"{spent.usage.input_tokens}{told}",
            "unknown" if spent.usage is None else f"{spent.usage.output_tokens}{told}",
            "unknown" if spent.cost is None else f"{spent.cost:.6f}{'+' if spent.unpriced else ''}",
            "-" if spent.latency is None else f"{spent.latency:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    note = "\n`+` and `unknown`: the tokens or the price of some calls are not known.\n" if partly else ""
    return "\n".join(lines) + "\n" + note


def _name(name: str | None) -> str:
    """A name within a cell."""
    return "-" if name is None else " ".join(name.replace("|", "\\|").split())
