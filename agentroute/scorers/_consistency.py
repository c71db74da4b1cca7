"""Whether a model says the same again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from agentroute.errors import ConfigError
from agentroute.scorers._asking import AskerLike, Asking, Prompt, checked_count
from agentroute.scorers._base import asked_text
from agentroute.scorers._texts import same_number, same_text
from agentroute.types import Query, Reply, Score

__all__ = ["SelfConsistency"]

_SAME: dict[str, Callable[[str, str], bool]] = {"text": same_text, "number": same_number}


class SelfConsistency(Asking):
    """The share of k fresh samples that agree with the answer.

    Signals: the share under the scorer's name, and `.entropy`, the entropy of the groups of equal answers among the answer and
    its k samples, divided by log(k + 1): 0 = all say the same, 1 = no two do (semantic entropy, with `same` as the meaning).

    Args:
        asker: Who is asked again: the model that gave the answer, as a rule.
        k: Samples. Each costs about as much as the answer did.
        same: When two answers are the same: `"text"` (but for outer marks, spaces and case), `"number"` (the last number of
            each), or a function of two texts. Longer answers need a function that compares what they mean, such as the cosine
            of two embeddings above a threshold, or a model that is asked whether each follows from the other.
        ask: Makes the prompt from the query; `None` = the query's text.
        temperature: Of the samples; at 0 they would all be alike.
        max_tokens: Most tokens of a sample.
        name: What the signals are called.
        ceiling: Most USD that the k samples cost together; `None` = unknown.

    Source: Wang et al. 2023, Self-Consistency Improves Chain of Thought Reasoning, arXiv:2203.11171; Kuhn et al. 2023, Semantic
    Uncertainty, arXiv:2302.09664 (entropy over meanings).

    >>> again = iter(["Lima", "lima.", "Cusco", "**Lima**"])
    >>> scorer = SelfConsistency(lambda prompt: next(again), k=4)
    >>> scorer.score(Query(text="Capital of Peru?"), Reply(text="Lima")).value
    0.75
    """

    def __init__(
        self,
        asker: AskerLike,
        *,
        k: int = 5,
        same: Literal["text", "number"] | Callable[[str, str], bool] = "text",
        ask: Callable[[Query], str] | None = None,
        temperature: float = 0.7,
        max_tokens: int = 512,
        name: str = "self_consistency",
        ceiling: float | None = None,
    ) -> None:
        super().__init__(asker, name=name, ceiling=ceiling)
        if not callable(same) and same not in _SAME:
            raise ConfigError(f"same={same!r} must be 'text', 'number' or a function of two texts")
        self.k = checked_count(k, "k")
        self.max_tokens = checked_count(max_tokens, "max_tokens")
        self.temperature = temperature
        self._same = same if callable(same) else _SAME[same]
        self._ask = ask

    def prompt(self, query: Query, reply: Reply, /) -> Prompt:  # noqa: ARG002  # the contract
        """The question itself: the samples must not know the answer."""
        text = asked_text(query, self.name) if self._ask is None else self._ask(query)
        return Prompt(text=text, samples=self.k, max_tokens=self.max_tokens, temperature=self.temperature)

    def read(self, reply: Reply, told: Sequence[Reply], /) -> Score:
        """Counts the samples that agree."""
        texts = [one.text for one in told]
        agree = sum(bool(self._same(reply.text, text)) for text in texts)
        share = agree / len(texts)
        signals = {self.name: share, f"{self.name}.entropy": _entropy([reply.text, *texts], self._same)}
        return Score(value=share, reason=f"{agree} of {len(texts)} samples agree", signals=signals)


def _entropy(texts: Sequence[str], same: Callable[[str, str], bool]) -> float:
    """Entropy of the groups, each founded by the first text that is the same as no earlier founder's, over log n."""
    founders: list[str] = []
    sizes: list[int] = []
    for text in texts:
        place = next((i for i, founder in enumerate(founders) if same(founder, text)), None)
        if place is None:
            founders.append(text)
            sizes.append(1)
        else:
            sizes[place] += 1
    n = len(texts)
    return min(sum(size * math.log(n / size) for size in sizes) / (n * math.log(n)), 1.0)
