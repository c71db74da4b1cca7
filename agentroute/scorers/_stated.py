"""What a model says of an answer: how sure it is, and whether it is right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers._asking import FENCE_RULE, AskerLike, Asking, Prompt, checked_count, checked_value, fenced
from agentroute.scorers._base import asked_text
from agentroute.types import Query, Reply, Score, TokenLogprob

__all__ = ["SelfVerification", "VerbalisedConfidence", "Verified"]

_LIMIT = 8000  # characters of a question or an answer that are shown: about 2,000 tokens

# A comma before three digits may group thousands; before any other number of digits, or after 0, it is a decimal comma.
_NUMBER = r"(0,\d+|\d{1,3}(?:\.\d+|,(?!\d{3}(?!\d))\d+)?)"
_FIGURE = rf"(?<![\w.-])(?<!\d,){_NUMBER}"
_RANGE = re.compile(rf"{_FIGURE} ?%? ?(?:-|\u2013|to) ?{_NUMBER} ?(?:%|percent|per cent)", re.IGNORECASE)
_PERCENT = re.compile(rf"{_FIGURE} ?(?:%|percent|per cent)", re.IGNORECASE)
_OF = re.compile(rf"{_FIGURE} ?(/|out of) ?{_NUMBER}(?![\w%])(?![.,]\d)", re.IGNORECASE)
_BARE = re.compile(rf"{_FIGURE}(?![\w%])(?![.,]\d)")
_LINE = re.compile(rf"\W*(?:(?:my )?(?:confidence|probability|certainty)\W*)?{_NUMBER} ?(%?)\W*", re.IGNORECASE)
_MINUS = re.compile(r"(?<!\w)[-\u2212]\d")  # also the sign of typeset text


def percentage(text: str) -> float | None:
    """The one percentage that a text states, in [0, 1]; `None` = none, or several that differ.

    Understood are `85`, `85 %`, `85 percent`, `80-90%` (their middle), `85/100`, `9 out of 10` and `0.85`, with a decimal comma,
    too; two that are 100 together are odds, so that `50/50` is 0.5; a whole number without a sign is a percentage, so that `1` is
    0.01 and `1.0` is 1. Where several differ, a first or last line that holds nothing but one of them decides. What is below 0 or
    above 100 % is no percentage.

    >>> percentage("I am about 85% sure.")
    0.85
    >>> percentage("95% sure, which leaves 5% of doubt") is None
    True
    """
    found = {(_float(low) + _float(high)) / 200.0 for low, high in _RANGE.findall(text)}
    rest = _RANGE.sub(" ", text)
    if _MINUS.search(rest):
        return None
    found |= {part for figures in _OF.findall(rest) if (part := _part(*figures)) is not None}
    rest = _OF.sub(" ", rest)
    found |= {_float(one) / 100.0 for one in _PERCENT.findall(rest)}
    if not found:
        found = {_share(one) for one in _BARE.findall(rest)}
    if len(found) > 1:
        lines = [line for line in text.splitlines() if line.strip()]
        alone = [match for line in (lines[0], lines[-1]) if (match := _LINE.fullmatch(line))]
        found = {_float(one[1]) / 100.0 if one[2] else _share(one[1]) for one in alone}
    value = found.pop() if len(found) == 1 else math.nan
    return value if 0.0 <= value <= 1.0 else None


def _part(first: str, sign: str, second: str) -> float | None:
    """Two numbers with a stroke or "out of" between them: the odds for and against, or a part of a whole; `None` = neither."""
    part, whole = _float(first), _float(second)
    if sign == "/" and part + whole == 100.0:
        return part / 100.0
    return part / whole if whole else None


def _share(figure: str) -> float:
    """A number without a sign: one of 1 or less that has decimals is a share, any other a percentage."""
    value = _float(figure)
    return value if not figure.isdecimal() and value <= 1.0 else value / 100.0


def _float(figure: str) -> float:
    return float(figure.replace(",", "."))


class VerbalisedConfidence(Asking):
    """Asks how sure one can be of the answer, in percent.

    Models tend to say 80 to 100 whatever they are asked: fit `Calibrated` on graded answers. The answer is shown as fenced
    data, as by `LLMJudge`. Signals: the share under the scorer's name, and `.readable` (0 or 1).

    Args:
        asker: Who is asked: the model that gave the answer, or another.
        unreadable: The value where the reply states no percentage, or several; `None` = `MissingSignalError`. 0 rejects.
        max_tokens: Most tokens of the reply.
        limit: Most characters of the question and of the answer that are shown; longer ones lose their middle.
        seed: Of the fence; `None` = unpredictable.
        name: What the signals are called.
        ceiling: Most USD of one scoring; `None` = unknown.

    Source: Tian et al. 2023, Just Ask for Calibration, arXiv:2305.14975.

    >>> VerbalisedConfidence(lambda prompt: "I'd say 90 %.").score(Query(text="Capital of Peru?"), Reply(text="Lima")).value
    0.9
    """

    def __init__(
        self,
        asker: AskerLike,
        *,
        unreadable: float | None = 0.0,
        max_tokens: int = 32,
        limit: int = _LIMIT,
        seed: int | None = None,
        name: str = "verbalised_confidence",
        ceiling: float | None = None,
    ) -> None:
        super().__init__(asker, name=name, ceiling=ceiling)
        self.unreadable = checked_value(unreadable, "unreadable")
        self.max_tokens = checked_count(max_tokens, "max_tokens")
        self.limit = checked_count(limit, "limit")
        self.seed = seed

    def prompt(self, query: Query, reply: Reply, /) -> Prompt:
        """The question, the answer, and the request for a number."""
        question = fenced("QUESTION", asked_text(query, self.name), limit=self.limit, seed=self.seed)
        answer = fenced("ANSWER", reply.text, limit=self.limit, seed=self.seed)
        text = (
            f"{FENCE_RULE}\n\n{question}\n\n{answer}\n\n"
            "How likely is it that this answer to the question is correct? Reply with one number from 0 (certainly wrong) to "
            "100 (certainly correct), followed by %, and nothing else."
        )
        return Prompt(text=text, max_tokens=self.max_tokens)

    def read(self, reply: Reply, told: Sequence[Reply], /) -> Score:  # noqa: ARG002  # the contract
        """Finds the percentage."""
        value = percentage(told[0].text)
        if value is None:
            return self._unreadable(self.unreadable, "percentage", told[0].text)
        signals = {self.name: value, f"{self.name}.readable": 1.0}
        return Score(value=value, reason=f"the model is {100 * value:.3g} % sure", signals=signals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An example of a verification.

    Attributes:
        question: What was asked.
        answer: What was answered.
        correct: Whether that is right.
    """

    question: str
    answer: str
    correct: bool


_EXAMPLES = (
    Verified(question="What is the capital of Australia?", answer="The capital of Australia is Sydney.", correct=False),
    Verified(question="A shop sells pens at 3 for 2 euros. What do 12 pens cost?", answer="12 / 3 * 2 = 8 euros.", correct=True),
    Verified(question="Name a prime number between 24 and 28.", answer="27", correct=False),
    Verified(question="Which gas do plants take in for photosynthesis?", answer="Carbon dioxide.", correct=True),
)
# What may stand around a verdict without changing it. A question mark is none of these: "Correct? No."
_MARKS = r"\s.,;:*_`\"'()\[\]{}<>#|…\-\u2013\u2014\u2018\u2019\u201c\u201d"
_TITLE = re.compile(rf"[{_MARKS}]*(?:(?:(?:my|the|final)\s+)*(?:verdict|decision|answer)(?![^\W_])[{_MARKS}]*)?", re.IGNORECASE)
_JOINING = frozenset("-'\u2019")  # between letters they make one word of two
_LEADING = re.compile(rf"[{_MARKS}]+")


class SelfVerification(Asking):
    """Few-shot self-verification: a model is shown examples and asked whether the answer is correct.

    Either k samples of `Correct` or `Incorrect` are drawn and the value is the share of `Correct` among those that can be read;
    or, with `logprobs`, one reply is asked for and the value is p(Correct) / (p(Correct) + p(Incorrect)) of its first token:
    what infinitely many samples at temperature 1 would give, for the price of one. Where a title such as "Verdict:" comes first,
    the token after it is read, and the title taken as given. Alternatives that the provider does not list count
    as impossible.

    A sample counts when it is one of the words, whatever title and marks stand around it. What follows an approval may take it
    back ("Correct: unlikely"), and in more ways than can be listed, so nothing else may follow; a rejection may go on after a
    mark ("No, it is not.") as long as it does not hold the other word. Any other sample cannot be read. For a model that likes to
    explain take `logprobs`, which reads the first token alone.

    Signals: the value under the scorer's name, `.readable` (the share of samples, or the probability mass, that said either).

    Args:
        asker: Who is asked: in AutoMix the model that gave the answer.
        k: Samples.
        examples: Shown before; `None` = four short ones. Examples of your own task, right and wrong, serve better.
        template: A prompt of your own, with examples and all, in which `{question}` and `{answer}` stand for both; `None` = ours,
            which shows both as fenced data. In yours an answer can pose as anything.
        words: What the model shall say of a right and of a wrong answer.
        max_tokens: Most tokens of a reply.
        logprobs: Whether to read the first token's probabilities instead of drawing samples.
        temperature: Of the samples.
        unreadable: The value where no sample can be read; `None` = `MissingSignalError`. 0 rejects.
        limit: Most characters of the question and of the answer that are shown; longer ones lose their middle.
        seed: Of the fence; `None` = unpredictable.
        name: What the signals are called.
        ceiling: Most USD of one scoring; `None` = unknown.

    Raises:
        MissingSignalError: By `score`, when `logprobs` is asked for and the asker sends none.

    Source: Madaan et al. 2023, AutoMix: Automatically Mixing Language Models, arXiv:2310.12963, section 3.1.

    >>> scorer = SelfVerification(lambda prompt: "Correct", k=3)
    >>> scorer.score(Query(text="Capital of Peru?"), Reply(text="Lima")).value
    1.0
    """

    def __init__(
        self,
        asker: AskerLike,
        *,
        k: int = 8,
        examples: Sequence[Verified] | None = None,
        template: str | None = None,
        words: tuple[str, str] = ("Correct", "Incorrect"),
        max_tokens: int = 8,
        logprobs: bool = False,
        temperature: float = 1.0,
        unreadable: float | None = 0.0,
        limit: int = _LIMIT,
        seed: int | None = None,
        name: str = "self_verification",
        ceiling: float | None = None,
    ) -> None:
        super().__init__(asker, name=name, ceiling=ceiling)
        self.k = checked_count(k, "k")
        self.examples = tuple(_EXAMPLES if examples is None else examples)
        if not all(isinstance(one, Verified) for one in self.examples):
            raise ConfigError("examples must be Verified(question=..., answer=..., correct=...)")
        if template is not None and not ("{question}" in template and "{answer}" in template):
            raise ConfigError("template must hold {question} and {answer}, where they are to stand")
        if len({word.casefold()[:1] for word in words}) < 2 or len(words) != 2:
            raise ConfigError(f"words={words!r}: give two words that begin with different letters, for right and for wrong")
        self.template = template
        self.words = words
        self.max_tokens = checked_count(max_tokens, "max_tokens")
        self.logprobs = logprobs
        self.temperature = temperature
        self.unreadable = checked_value(unreadable, "unreadable")
        self.limit = checked_count(limit, "limit")
        self.seed = seed

    def prompt(self, query: Query, reply: Reply, /) -> Prompt:
        """The examples, the question, the answer, and the request for one word."""
        if self.template is not None:
            given = {"{question}": asked_text(query, self.name)[: self.limit], "{answer}": reply.text[: self.limit]}
            # Both at once: a question that holds "{answer}" means just that.
            filled = re.sub(r"\{question\}|\{answer\}", lambda place: given[place[0]], self.template)
            return self._asked(filled)
        right, wrong = self.words
        shown = [
            f"Question: {one.question}\nAnswer: {one.answer}\nVerdict: {right if one.correct else wrong}\n\n"
            for one in self.examples
        ]
        question = fenced("QUESTION", asked_text(query, self.name), limit=self.limit, seed=self.seed)
        answer = fenced("ANSWER", reply.text, limit=self.limit, seed=self.seed)
        text = (
            f"Decide whether an answer to a question is right.\n\n{''.join(shown)}"
            f"Now the question and the answer to decide about. {FENCE_RULE}\n\n{question}\n{answer}\n\n"
            f"Is this answer right? Reply with one word, {right} or {wrong}, and nothing else."
        )
        return self._asked(text)

    def _asked(self, text: str) -> Prompt:
        if self.logprobs:
            return Prompt(text=text, max_tokens=self.max_tokens, logprobs=True)
        return Prompt(text=text, samples=self.k, max_tokens=self.max_tokens, temperature=self.temperature)

    def read(self, reply: Reply, told: Sequence[Reply], /) -> Score:  # noqa: ARG002  # the contract
        """Counts the verdicts, or reads the first token."""
        if self.logprobs:
            if not told[0].tokens:
                raise MissingSignalError("logprobs", self.name, "the asker sends none: use logprobs=False, which draws samples")
            right, wrong = _first_token(told[0].tokens, self.words)
            readable = min(right + wrong, 1.0)
        else:
            verdicts = [verdict for one in told if (verdict := _verdict(one.text, self.words)) is not None]
            right, wrong = float(sum(verdicts)), float(len(verdicts) - sum(verdicts))
            readable = len(verdicts) / len(told)
        if right + wrong <= 0.0:
            return self._unreadable(self.unreadable, "verdict", told[0].text)
        value = right / (right + wrong)
        word = self.words[0]
        how = f"the first token is {word} at {value:.3g}" if self.logprobs else f"{right:g} of {right + wrong:g} say {word}"
        return Score(value=value, reason=how, signals={self.name: value, f"{self.name}.readable": readable})


def _verdict(text: str, words: tuple[str, str]) -> bool | None:
    """Whether a text is the first word (true) or the second; `None` = anything else, such as a denial of either.

    A title and marks may come first. Behind the first word nothing but marks may stand; behind the second, after a mark or in a
    new line, anything but the first.
    """
    title = _TITLE.match(text)
    said = text[title.end() if title else 0 :]
    right, wrong = (re.match(rf"{re.escape(word)}(?!\w)([{_MARKS}!]*)", said, re.IGNORECASE) for word in words)
    if right:
        return True if right.end() == len(said) else None
    if not wrong:
        return None
    marks, rest = wrong[1], said[wrong.end() :]
    parted = not rest or "\n" in marks or (marks.strip() and marks not in _JOINING)
    approved = re.search(rf"(?<!\w){re.escape(words[0])}(?!\w)", rest, re.IGNORECASE)
    return None if not parted or approved or rest.startswith("?") else False


def _first_token(tokens: Sequence[TokenLogprob], words: tuple[str, str]) -> tuple[float, float]:
    """Probabilities of both words: at the first place that is not blank, or after a mere title."""
    follows = [_text(tokens[i:], words) for i in range(len(tokens))]
    filled = next((i for i, token in enumerate(tokens) if token.token.strip()), 0)
    begins = next((i for i, text in enumerate(follows) if _worded(tokens[i].token) and _says(text, words) is not None), filled)
    # After any other words the token may mean something else: "The answer is not" comes before a "correct", too.
    titled = _TITLE.fullmatch("".join(token.token for token in tokens[:begins]))
    at = begins if titled else filled
    place = tokens[at]
    mass = {True: 0.0, False: 0.0}
    for text, logprob in ({place.token: place.logprob} | dict(place.top)).items():
        # What followed the chosen token tells whether it began a word of ours: an "In" before " my view" did not.
        said = _says(follows[at] if text == place.token else text, words)
        if said is not None:
            mass[said] += math.exp(min(logprob, 0.0))
    return mass[True], mass[False]


def _text(tokens: Sequence[TokenLogprob], words: tuple[str, str]) -> str:
    """As much of the tokens' text as says whether it begins with one of the words: each token but the first holds something."""
    return "".join(token.token for token in tokens[: 2 + max(map(len, words))])


def _worded(token: str) -> bool:
    return any(character.isalnum() for character in token)


def _says(text: str, words: tuple[str, str]) -> bool | None:
    """Whether a text begins with the first word (true) or the second, or is a piece of two letters or more of either."""
    leading = _LEADING.match(text)
    bare = (text[leading.end() :] if leading else text).casefold()
    for word, meant in zip(map(str.casefold, words), (True, False), strict=True):
        after = bare[len(word) : len(word) + 1]
        if bare.startswith(word) and not after.isalnum() and after != "?":
            return meant
        if len(bare) > 1 and word.startswith(bare):
            return meant
    return None
