"""Before the first run: what the models' published scores say of each role, told from what the role is for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ConfigError
from agentroute.teams._values import Team
from agentroute.types import ModelCard

__all__ = ["BENCHMARKS", "PRIOR_SD", "CardPrior", "card_prior"]

Floats: TypeAlias = npt.NDArray[np.float64]

PRIOR_SD: Final = 0.7
"""Standard deviation, in logits, of what a model adds in a role around what its card says."""

_SCALE: Final = 3.0  # logits for a whole point of score: from 0.5 to 0.9 is about one logit
_SHARP: Final = 0.1
_SLOPE: Final = 0.05  # of scores in log price, where nothing is known: ten times the price, a ninth more of the score
_SLOPE_WEIGHT: Final = 2.0
_LEFT_OUT: Final = 0.3  # logits that an optional role is taken to add, as somebody has thought of it

BENCHMARKS: Final[Mapping[str, str]] = {
    "AIME": "hard competition mathematics problems",
    "AlpacaEval": "helpful open-ended chat answers to user instructions",
    "ARC": "science questions for school exams, multiple choice",
    "ArenaHard": "difficult open-ended chat prompts of users, writing and advice",
    "BBH": "logical and multi-step reasoning puzzles",
    "BFCL": "calls tools and functions with the right arguments, uses APIs",
    "BrowseComp": "searches and browses the web to find information, research",
    "CommonsenseQA": "everyday common sense questions",
    "DROP": "reads a passage and reasons about its details, reading comprehension",
    "GAIA": "agent that uses tools, searches the web and plans many steps",
    "GPQA": "graduate science: physics, chemistry, biology expert questions",
    "GSM8K": "school mathematics, arithmetic word problems: a mathematician calculates with numbers step by step",
    "HellaSwag": "everyday common sense, continues a story",
    "HotpotQA": "searches and combines facts from several documents to answer questions",
    "HumanEval": "writes code, programs Python functions, software development",
    "IFEval": "follows instructions and output formats exactly",
    "LiveCodeBench": "writes code, solves programming contest problems, algorithms",
    "LongBench": "reads and summarises long documents",
    "MATH": "competition mathematics: algebra, geometry, number theory, proofs",
    "MBPP": "writes code, short Python programs, software development",
    "MGSM": "school mathematics, arithmetic word problems in many languages, for a mathematician",
    "MMLU": "general knowledge of many subjects: history, law, medicine, economics",
    "MMMU": "understands images, charts and diagrams",
    "MTBench": "conversation over several turns, writing and role play",
    "MuSR": "multi-step reasoning over stories: whodunits, planning",
    "PlanBench": "makes plans: orders steps and divides tasks",
    "QuALITY": "reads long stories and answers questions about them",
    "RewardBench": "judges, reviews and criticises answers, says which one is better",
    "SimpleQA": "recalls short facts, trivia",
    "SQuAD": "reads a passage and extracts the answer, reading comprehension",
    "SWEbench": "software engineer: fixes bugs in code repositories, debugging, patches",
    "Spider": "writes SQL queries for databases",
    "Summarization": "summarises texts and documents",
    "TauBench": "customer service agent that talks with users and calls tools",
    "TerminalBench": "operates a computer with shell commands",
    "TriviaQA": "recalls facts, trivia questions",
    "TruthfulQA": "tells the truth, avoids false claims and misconceptions, checks facts",
    "WinoGrande": "everyday common sense, who a pronoun means",
    "WMT": "translates texts between languages, translator",
}
"""Well-known benchmarks, and what they measure in the words in which people describe roles."""

_KNOWN: Final = {"".join(filter(str.isalnum, name.lower())): words for name, words in BENCHMARKS.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CardPrior:
    """What cards lead one to expect before any run.

    Attributes:
        mean: float64 [k, m + 1], what each model adds in each role, in logits, about 0; the last column is of a role left out.
        benchmarks: The b benchmarks of which a score is known.
        weights: float64 [k, b], how much each role hangs on each of them; rows add up to 1.
        guessed: bool [m], models without a single score: theirs are guessed from prices.
        reasons: Role → what its models were judged by, in a phrase.
    """

    mean: Floats
    benchmarks: tuple[str, ...]
    weights: Floats
    guessed: npt.NDArray[np.bool_]
    reasons: Mapping[str, str]


def card_prior(
    team: Team,
    cards: Iterable[ModelCard],
    *,
    task: str = "",
    embedder: Embedder | None = None,
    scale: float = _SCALE,
    sharpness: float = _SHARP,
) -> CardPrior:
    """Prior means of what each model adds in each role: scores weighed by how near each benchmark is to the role's description.

    `mean = criticality x scale x (sum over benchmarks of weight x score, less its mean over the models)`, and a role's
    weights are a softmax of the cosines between its description and the benchmarks'. A score that is missing is guessed from the
    price, by a line that never falls, and from how the model does on other benchmarks.

    Args:
        team: Its roles; a role without a description is known by its name.
        cards: The models, in the order of the columns.
        task: What the team is for: added to each description.
        embedder: Of descriptions; `None` = the shipped one.
        scale: Logits for a whole point of score.
        sharpness: Difference of cosines that makes one benchmark e times as heavy as another.

    Raises:
        ConfigError: There are no models, or an option is out of range.
    """
    models = tuple(cards)
    if not models or not scale >= 0.0 or not sharpness > 0.0:
        raise ConfigError(f"a prior needs models, scale={scale!r} of 0 or more and sharpness={sharpness!r} above 0")
    benchmarks = tuple(sorted({name for card in models for name in card.scores}))
    scores = _scores(models, benchmarks)
    weights = _weights(team, benchmarks, task, as_embedder(embedder), sharpness)
    # Without any score, one column that rises with the price stands for all benchmarks.
    merit = (weights if benchmarks else np.ones((len(team.roles), 1))) @ scores.T
    critical = np.array([role.criticality for role in team.roles])[:, None]
    mean = critical * scale * (merit - merit.mean(axis=1, keepdims=True))
    left_out = np.where([[role.optional] for role in team.roles], -_LEFT_OUT * critical, 0.0)
    return CardPrior(
        mean=np.concatenate([mean, left_out], axis=1),
        benchmarks=benchmarks,
        weights=weights,
        guessed=np.array([not card.scores for card in models]),
        reasons={role.name: _reason(benchmarks, row) for role, row in zip(team.roles, weights, strict=True)},
    )


def _described(benchmark: str) -> str:
    """Name and meaning; variants of a well-known benchmark, such as `MMLU-Pro`, mean what it means."""
    plain = "".join(filter(str.isalnum, benchmark.lower()))
    fitting = [known for known in _KNOWN if plain.startswith(known)]
    return f"{benchmark}: {_KNOWN[max(fitting, key=len)]}" if fitting else benchmark


def _weights(team: Team, benchmarks: tuple[str, ...], task: str, embedder: Embedder, sharpness: float) -> Floats:
    if not benchmarks:
        return np.zeros((len(team.roles), 0))
    roles = [f"{role.name}: {role.description} {task}".strip() for role in team.roles]
    asked = embedder.embed([_described(name) for name in benchmarks]).astype(np.float64)
    near = np.asarray(embedder.embed(roles), np.float64) @ asked.T
    weight: Floats = np.exp((near - near.max(axis=1, keepdims=True)) / sharpness)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float64)


def _scores(cards: tuple[ModelCard, ...], benchmarks: tuple[str, ...]) -> Floats:
    """Scores of all models, float64 [m, b], missing ones guessed; without benchmarks float64 [m, 1] that rises with the price."""
    price = np.array([_log_price(card) for card in cards])
    price = np.where(np.isnan(price), np.nanmean(price) if not np.isnan(price).all() else 0.0, price)
    if not benchmarks:
        return np.asarray(_SLOPE * (price - price.mean())[:, None], np.float64)
    known = np.array([[card.scores.get(name, math.nan) for name in benchmarks] for card in cards])
    usual = float(np.nanmean(known))
    line = np.stack([_line(price, column, usual) for column in known.T], axis=1)
    seen = ~np.isnan(known)
    # A model that does better elsewhere than its price promises is likely to do so here, the surer the more is known of it.
    better = np.where(seen, known - line, 0.0).sum(axis=1) / (1.0 + seen.sum(axis=1))
    return np.where(seen, known, np.clip(line + better[:, None], 0.0, 1.0))


def _log_price(card: ModelCard) -> float:
    """Logarithm of what a million tokens cost, half of them answers; a free model counts as nearly free."""
    return math.nan if card.price is None else math.log(max((card.price.input + card.price.output) / 2.0, 1e-3))


def _line(price: Floats, score: Floats, usual: float) -> Floats:
    """What the price says of a score, float64 [m]: least squares, drawn toward a usual level and slope, never falling.

    A benchmark of which one score is known was hardly chosen at random: people publish what they are good at.
    """
    seen = ~np.isnan(score)
    x, y = price[seen], score[seen]
    dx = x - x.mean()
    slope = max(0.0, float((dx @ y + _SLOPE_WEIGHT * _SLOPE) / (dx @ dx + _SLOPE_WEIGHT)))
    level = (y.sum() + usual) / (len(y) + 1)
    return np.asarray(level + slope * (price - x.mean()))


def _reason(benchmarks: tuple[str, ...], weights: Floats) -> str:
    if not benchmarks:
        return "no scores on the cards: judged by price"
    best = np.argsort(-weights, kind="stable")[:3]
    return "judged by " + ", ".join(f"{benchmarks[place]} ({weights[place]:.0%})" for place in best.tolist())
