"""Effects of pairs: worlds in which a sum does and does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._pairs import PairwiseLogit, proven, surely_better


def runs(seed, n, *, roles=3, models=3, kinds=0, strength=0.0, modes=1):
    """Runs of a world with or without effects of pairs, and the logits of success."""
    rng = np.random.default_rng(seed)
    columns, kind = rng.integers(0, models, (n, roles)), rng.integers(0, max(kinds, 1), n)
    theta, pair = rng.normal(0.0, 0.6, (roles, models)), rng.normal(0.0, 1.0, (models, models))
    logit = theta[np.arange(roles), columns].sum(axis=1) + strength * pair[columns[:, 0], columns[:, 1]]
    return Observed(
        columns=columns,
        modes=rng.integers(0, modes, n),
        kinds=np.eye(kinds)[kind] if kinds else np.zeros((n, 0)),
        success=(rng.random(n) < 1.0 / (1.0 + np.exp(-logit))).astype(float),
    )


def test_pairs_that_are_held_at_nothing_leave_the_additive_model():
    seen = runs(2, 150, kinds=2, modes=2, strength=1.0)
    pairs = PairwiseLogit(np.full(3, 3), modes=2, kinds=2, pair_ridge=1e12).fit(seen)
    plain = AdditiveLogit(np.full(3, 3), modes=2, kinds=2).fit(seen)
    assert pairs.coef_[: plain.size] == pytest.approx(plain.coef_, abs=1e-6)
    assert np.abs(pairs.pairs()).max() < 1e-6


def test_what_two_models_do_together_is_found_in_their_own_place():
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 2, (2000, 3))
    together = (columns[:, 0] == 1) & (columns[:, 2] == 0)
    seen = Observed(columns=columns, modes=np.zeros(2000, int), kinds=np.zeros((2000, 0)), success=np.where(together, 0.9, 0.3))
    pairs = PairwiseLogit(np.full(3, 2), pair_ridge=0.1).fit(seen).pairs()  # of roles (0, 1), (0, 2), (1, 2)
    twist = pairs[:, 1, 0] - pairs[:, 0, 0] - pairs[:, 1, 1] + pairs[:, 0, 1]
    assert twist[1] > 1.5
    assert np.abs(twist[[0, 2]]).max() < 0.2


def test_the_better_model_is_told_out_of_sample():
    def pairs():
        return PairwiseLogit(np.full(3, 3))

    def plain():
        return AdditiveLogit(np.full(3, 3), kinds=2)

    assert surely_better(pairs, plain, runs(1, 900, kinds=2, strength=1.5))
    assert not surely_better(plain, pairs, runs(1, 900, kinds=2, strength=1.5))
    assert not surely_better(pairs, plain, runs(1, 9, kinds=2, strength=1.5))
    assert not any(surely_better(pairs, plain, runs(seed, 300, kinds=2)) for seed in range(10))
    assert not surely_better(plain, plain, runs(0, 100, kinds=2))


@pytest.mark.parametrize(
    ("roles", "models", "n", "strength", "why"),
    [
        (3, 3, 900, 1.5, ""),
        (3, 3, 900, 0.0, "effects of pairs do not surely foretell runs better"),
        (3, 3, 23, 1.5, "23 runs are too few for the 12 effects of pairs"),  # 3 pairs of roles, 2 x 2 free effects in each
        (12, 10, 400, 1.5, "400 runs are too few for the 5,346 effects of pairs"),
        (6, 9, 2000, 1.5, "960 effects of pairs are too many to learn"),  # 1 + 1 + 6 + 6 x 9 + 15 x 81 parameters
    ],
)
def test_pairs_must_prove_themselves_and_are_not_tried_where_they_cannot(roles, models, n, strength, why):
    seen = runs(1, n, roles=roles, models=models, strength=strength)
    counts = np.full(roles, models)
    found, told = proven(lambda: PairwiseLogit(counts), lambda: AdditiveLogit(counts), seen)
    assert told == why
    assert (found is None) == bool(why)
    if found is not None:
        assert found.coef_ == pytest.approx(PairwiseLogit(counts).fit(seen).coef_)
