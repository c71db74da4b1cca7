"""Cold starts: whose card suits which role, and what is made of scores and prices that are missing."""

from __future__ import annotations

import numpy as np
import pytest

from agentroute.embedders import CallableEmbedder
from agentroute.errors import ConfigError
from agentroute.teams import Role, Team
from agentroute.teams._prior import BENCHMARKS, card_prior
from agentroute.types import ModelCard, Price

SCORES = ("HumanEval", "MATH", "MMLU", "BFCL")


def card(name, *scores, price=1.0):
    known = {benchmark: score for benchmark, score in zip(SCORES, scores, strict=False) if score is not None}
    return ModelCard(id=name, price=None if price is None else Price(input=price, output=price), scores=known)


CARDS = (card("coder", 0.9, 0.5, 0.6, 0.6), card("mathematician", 0.6, 0.9, 0.6, 0.6), card("scholar", 0.6, 0.5, 0.9, 0.6))
CODE, SUMS, FACTS = "Writes the code that solves the task.", "Solves mathematics problems.", "Knows history and facts."


def team(*roles, **options):
    return Team(roles=[Role(name=f"role{number}", description=role, **options) for number, role in enumerate(roles)])


def best(team_, cards=CARDS, **options):
    return [cards[place].id for place in card_prior(team_, cards, **options).mean[:, :-1].argmax(axis=1)]


def test_each_role_gets_the_model_that_is_strong_at_what_it_does():
    assert best(team(CODE, SUMS, FACTS)) == ["coder", "mathematician", "scholar"]


def test_roles_that_swap_their_descriptions_swap_their_models():
    one, other = card_prior(team(CODE, SUMS), CARDS), card_prior(team(SUMS, CODE), CARDS)
    assert best(team(SUMS, CODE)) == ["mathematician", "coder"]
    # Names count a little, too: the roles are not called alike.
    assert one.mean[::-1] == pytest.approx(other.mean, abs=0.2)


def test_the_order_of_models_does_not_matter():
    order = [2, 0, 1]
    moved = card_prior(team(CODE, SUMS), [CARDS[place] for place in order])
    assert moved.mean[:, :-1] == pytest.approx(card_prior(team(CODE, SUMS), CARDS).mean[:, order])


@pytest.mark.parametrize(
    ("description", "wins"),
    [
        ("Implements functions in Python.", "coder"),
        ("You are a programming expert and software developer.", "coder"),
        ("Fixes bugs in the program.", "coder"),
        ("Does the calculations and proves theorems.", "mathematician"),
        ("Analyses equations and geometry.", "mathematician"),
        ("Expert in law, medicine and economics.", "scholar"),
    ],
)
def test_common_roles_are_understood(description, wins):
    assert best(team(description)) == [wins]


def test_a_role_without_a_description_is_known_by_its_name_and_what_the_team_is_for():
    named = Team(roles=[Role(name="programmer"), Role(name="mathematician")])
    assert best(named) == ["coder", "mathematician"]
    nameless = Team(roles=[Role(name="a")])
    assert best(nameless, task="Solves competition mathematics: algebra and geometry.") == ["mathematician"]
    assert best(nameless, task="Writes Python programs.") == ["coder"]


@pytest.mark.parametrize("scored", ["MATH", "AIME", "GSM8K", "MGSM"])
@pytest.mark.parametrize("name", ["Mathematician", "mathematician", "Math teacher", "Math solver", "Mathematics expert"])
@pytest.mark.parametrize("described", [True, False])
def test_who_does_mathematics_is_known_by_any_score_in_it(scored, name, described):
    cards = [
        ModelCard(id="coder", scores={"HumanEval": 0.92, "MBPP": 0.88, "MMLU": 0.62, scored: 0.60}),
        ModelCard(id="scholar", scores={"HumanEval": 0.55, "MBPP": 0.52, "MMLU": 0.91, scored: 0.70}),
        ModelCard(id="mathematician", scores={"HumanEval": 0.50, "MBPP": 0.50, "MMLU": 0.65, scored: 0.95}),
    ]
    role = Role(name=name, description=f"{name}." if described else "")
    assert best(Team(roles=[role]), cards) == ["mathematician"]


def flat(texts):
    """Code is one direction, everything else another."""
    return [[1.0, 0.0] if "code" in text else [0.0, 1.0] for text in texts]


def test_the_mean_is_as_it_is_written_down():
    embedder = CallableEmbedder(flat, name="flat", revision="1", dimension=2)
    cards = (card("a", 0.9, 0.4), card("b", 0.5, 0.6))
    prior = card_prior(team("code", "poems"), cards, embedder=embedder, scale=2.0, sharpness=0.5)
    near = 1.0 / (1.0 + np.exp(-2.0))  # of cosines 1 and 0 at sharpness 0.5
    assert prior.benchmarks == ("HumanEval", "MATH")
    assert prior.weights == pytest.approx(np.array([[near, 1 - near], [1 - near, near]]))
    merit = prior.weights @ np.array([[0.9, 0.5], [0.4, 0.6]])
    assert prior.mean[:, :2] == pytest.approx(2.0 * (merit - merit.mean(axis=1, keepdims=True)))
    assert prior.mean[:, 2].tolist() == [0.0, 0.0]
    assert prior.reasons["role0"] == "judged by HumanEval (88%), MATH (12%)"


def test_criticality_multiplies():
    plain, twice = card_prior(team(CODE), CARDS).mean, card_prior(team(CODE, criticality=2.0), CARDS).mean
    assert twice == pytest.approx(2.0 * plain)
    assert not card_prior(team(CODE, criticality=0.0), CARDS).mean.any()


def test_effects_add_up_to_nothing_over_the_models():
    assert card_prior(team(CODE, SUMS, FACTS), CARDS).mean[:, :-1].sum(axis=1) == pytest.approx(0.0)


def test_an_optional_role_is_taken_to_be_of_use():
    mean = card_prior(team(CODE, optional=True), CARDS).mean
    assert mean[0, -1] < 0.0
    assert card_prior(team(CODE), CARDS).mean[0, -1] == 0.0


def test_models_without_scores_are_ranked_by_price():
    prices = [3.0, 0.1, 30.0, None, 0.0]
    cards = [card(str(place), price=price) for place, price in enumerate(prices)]
    prior = card_prior(team(CODE), cards)
    assert np.argsort(prior.mean[0, :-1]).tolist() == [4, 1, 3, 0, 2]
    assert prior.guessed.all()
    assert prior.reasons["role0"] == "no scores on the cards: judged by price"
    assert not card_prior(team(CODE), [card("a", price=None), card("b", price=None)]).mean.any()


def test_a_missing_score_never_falls_with_the_price_even_where_dear_models_did_worse():
    cards = [card("cheap", 0.9, price=0.1), card("dear", 0.5, price=10.0)]
    guesses = [card(f"guess{price}", price=price) for price in (0.01, 0.3, 1.0, 40.0)]
    prior = card_prior(team(CODE), [*cards, *guesses])
    found = prior.mean[0, 2:6]
    assert (np.diff(found) >= -1e-12).all()
    assert prior.guessed.tolist() == [False, False, True, True, True, True]
    rising = card_prior(team(CODE), [card("cheap", 0.5, price=0.1), card("dear", 0.9, price=10.0), *guesses]).mean[0, 2:6]
    assert (np.diff(rising) > 0.0).all()


def test_a_model_that_does_well_elsewhere_is_trusted_where_it_was_not_tried():
    cards = [card("a", 0.6, 0.6, 0.6), card("b", 0.6, 0.6, 0.6), card("good", None, 0.9, 0.9), card("bad", None, 0.3, 0.3)]
    embedder = CallableEmbedder(flat, name="flat", revision="1", dimension=2)
    mean = card_prior(team("code"), cards, embedder=embedder, sharpness=0.01).mean[0]  # HumanEval alone counts
    assert mean[2] > mean[0] + 0.1
    assert mean[3] < mean[0] - 0.1


def test_a_model_that_alone_published_a_good_score_is_taken_to_be_good_at_it():
    cards = [card("plain", 0.6, 0.6, 0.6), card("caller", 0.6, 0.6, 0.6, 0.9)]
    assert best(team("Calls tools and functions."), cards) == ["caller"]


@pytest.mark.parametrize("name", ["HumanEval+", "human-eval", "humaneval pass@1"])
def test_a_benchmark_is_known_by_other_spellings(name):
    cards = [ModelCard(id="a", scores={name: 0.9, "MATH": 0.5}), ModelCard(id="b", scores={name: 0.5, "MATH": 0.9})]
    assert best(team(CODE), cards) == ["a"]
    assert best(team(SUMS), cards) == ["b"]


def test_a_benchmark_of_ones_own_is_known_by_its_name():
    cards = [
        ModelCard(id="a", scores={"poetry and rhymes": 0.9, "tax law": 0.5}),
        ModelCard(id="b", scores={"poetry and rhymes": 0.5, "tax law": 0.9}),
    ]
    assert best(team("Writes poems that rhyme.", "Advises on taxes and the law."), cards) == ["a", "b"]


def test_benchmarks_are_described_apart():
    assert len(BENCHMARKS) >= 30
    assert len(set(BENCHMARKS.values())) >= len(BENCHMARKS) - 6


def test_options_are_checked():
    for models, options in (((), {}), (CARDS, {"scale": -1.0}), (CARDS, {"sharpness": 0.0})):
        with pytest.raises(ConfigError):
            card_prior(team(CODE), models, **options)
