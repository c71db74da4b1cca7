"""How likely the model found its own words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers._base import Instant
from agentroute.types import Query, Reply, Score, TokenLogprob

__all__ = ["LogprobScorer", "Statistic"]

Statistic: TypeAlias = Literal["mean", "min", "margin", "entropy"]

_LEAST = -100.0  # e^-100: some providers send -inf or -9999 for "not among the likeliest"


class LogprobScorer(Instant):
    """The model's own certainty, read from the log-probabilities of the answer's tokens: free where the provider sends them.

    | `statistic` | signal | value |
    |---|---|---|
    | `mean` | mean log-probability of the n tokens | its exponential: the geometric mean probability of a token |
    | `min` | the least one | its exponential |
    | `margin` | mean over the tokens of p₁ - p₂, the two likeliest at each place | the same |
    | `entropy` | mean over the tokens of H/log k, H the entropy of the k likeliest, rescaled to sum to 1 | 1 less it |

    The value is no chance of being right: long answers have other means than short ones, and some models are always sure. Fit
    `Calibrated` on graded answers, and look at the area under its curve before it gates anything.

    The score's signals hold the statistic under the scorer's name and, as features for a cascade that learns, whatever of
    `.mean`, `.min`, `.q10` (the tenth percentile) and `.length` (log of 1 + n), `.margin` and `.entropy` the answer has.

    Args:
        statistic: Which one.
        name: What the signals are called; `None` = `"logprob_<statistic>"`.

    Raises:
        MissingSignalError: By `score`, when the answer carries no log-probabilities, or for `margin` and `entropy` fewer than two
            alternatives at a place.
        ConfigError: The statistic is unknown.

    Source: Gupta et al. 2024, Language Model Cascades: Token-level Uncertainty and Beyond, arXiv:2404.10136 (mean, quantiles);
    margins as in UCCI, arXiv:2605.18796.

    >>> reply = Reply(text="Lima", tokens=(TokenLogprob(token="Li", logprob=-0.2), TokenLogprob(token="ma", logprob=0.0)))
    >>> round(LogprobScorer().score(Query(text="Capital of Peru?"), reply).value, 4)  # exp(-0.1)
    0.9048
    """

    def __init__(self, statistic: Statistic = "mean", *, name: str | None = None) -> None:
        if statistic not in get_args(Statistic):
            raise ConfigError(f"unknown statistic {statistic!r}: use one of {', '.join(get_args(Statistic))}")
        super().__init__(name if name is not None else f"logprob_{statistic}")
        self.statistic = statistic
        self.needs = frozenset({"logprobs"} if statistic in {"mean", "min"} else {"logprobs", "top_logprobs"})

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """Reads the tokens."""
        if not reply.tokens:
            raise MissingSignalError("logprobs", self.name, "ask the model for them (logprobs=True), or use another scorer")
        found = _figures(reply.tokens)
        if self.statistic not in found:
            raise MissingSignalError("top_logprobs", self.name, "ask the model for two or more alternatives (top_logprobs=5)")
        raw = found[self.statistic]
        value = math.exp(raw) if self.statistic in {"mean", "min"} else raw if self.statistic == "margin" else 1.0 - raw
        signals = {self.name: raw} | {f"{self.name}.{key}": number for key, number in found.items() if key != self.statistic}
        reason = f"{self.statistic} over {len(reply.tokens)} tokens is {raw:.3g}"
        return Score(value=min(max(value, 0.0), 1.0), reason=reason, signals=signals)


def _figures(tokens: Sequence[TokenLogprob]) -> dict[str, float]:
    """All statistics that these tokens have."""
    logs = _logs([token.logprob for token in tokens])
    found = {
        "mean": float(logs.mean()),
        "min": float(logs.min()),
        "q10": float(np.quantile(logs, 0.1)),
        "length": math.log1p(len(logs)),
    }
    if all(len(token.top) > 1 for token in tokens):
        found["margin"], found["entropy"] = _spread(tokens)
    return found


def _logs(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Log-probabilities as they must be: rounding may leave them a little above 0; NaN counts as the least."""
    given = np.asarray(values, np.float64)
    return np.clip(np.where(np.isnan(given), _LEAST, given), _LEAST, 0.0)


def _spread(tokens: Sequence[TokenLogprob]) -> tuple[float, float]:
    """Means over the tokens: the margin of the two likeliest, and the normalised entropy of all that are given."""
    counts = np.array([len(token.top) for token in tokens])
    p = np.zeros((len(tokens), counts.max()))
    p[np.arange(p.shape[1]) < counts[:, None]] = np.exp(_logs([log for token in tokens for log in token.top.values()]))
    p.sort(axis=1)
    share = p / p.sum(axis=1, keepdims=True)
    entropy = -np.sum(share * np.log(np.maximum(share, 1e-300)), axis=1) / np.log(counts)
    return float(np.mean(p[:, -1] - p[:, -2])), float(np.mean(entropy))
