"""Trains a `MasRouterPolicy` on logged runs, in torch: policy gradients, with runs weighed by how likely they are now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ConfigError, DataError, MissingExtraError
from agentroute.pool import ModelPool
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._masrouter import Cascade, MasRouterPolicy, described, embedded, inputs, subsets
from agentroute.teams._observing import observed, usable
from agentroute.teams._values import Team, TeamRun
from agentroute.types import ModelCard

__all__ = ["advantages", "train_masrouter"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

_SHRINKAGE: Final = 5.0  # runs of the mean of all that a kind's mean gain is drawn towards
_KEEP: Final = 0.8  # of what was gained so far, at each step


def train_masrouter(
    team: Team,
    models: ModelPool | Iterable[ModelCard | str],
    runs: Iterable[TeamRun],
    *,
    willingness_to_pay: float = math.inf,
    embedder: Embedder | None = None,
    hidden: int = 64,
    steps: int = 500,
    batch: int = 64,
    rate: float = 0.01,
    decay: float = 0.1,
    entropy: float = 0.5,
    clip: float = 1.0,
    seed: int = 0,
) -> MasRouterPolicy:
    """Learns a cascade from runs whose modes and models were drawn by lot. Needs the extra `torch`; what it returns does not.

    Each step follows the gradient of what a batch of runs gained, in standard deviations, beyond what the policy gains by now on
    their kinds of task (a running mean), times how much likelier the policy makes each run than the lot did: REINFORCE from runs
    that others drew. Those weights are cut off, which keeps few runs from deciding everything. The same runs and seed give the
    same policy. It takes a minute or so on a processor: 77 s for 330 runs of three roles.

    Args:
        team: Roles and modes.
        models: The models, by cards.
        runs: Runs with success and propensity; others are left out.
        willingness_to_pay: USD that a success is worth; infinity = costs do not count.
        embedder: Of tasks and descriptions; `None` = the one that ships.
        hidden: Width of the network.
        steps: Steps of AdamW.
        batch: Runs in each.
        rate: Learning rate.
        decay: How strongly weights are drawn to 0, so that a few hundred tasks are not learned by heart.
        entropy: What a nat of uncertainty is worth, in standard deviations of the gain, so that the policy is not sure too early.
        clip: Where weights are cut off; at 1 a run counts for less where it has become unlikely, and never for more.
        seed: Of first weights and batches.

    Raises:
        MissingExtraError: torch is not installed.
        DataError: No run has both success and propensity; costs count, and some are unknown; or vectors are of several embedders.
        ConfigError: An option is out of range.

    Source: Yue et al. 2025, arXiv:2502.11133; Williams 1992 (REINFORCE, baselines); Ionides 2008, Truncated Importance Sampling;
    Loshchilov and Hutter 2019 (AdamW).
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("train_masrouter", "torch") from error
    sizes, shares = (hidden, steps, batch), (willingness_to_pay, rate, clip)
    if min(sizes) < 1 or not min(shares) > 0.0 or not min(entropy, decay) >= 0.0:
        raise ConfigError(
            "hidden, steps and batch must be 1 or more, willingness_to_pay, rate and clip above 0, entropy 0 or more"
        )
    pool = models if isinstance(models, ModelPool) else ModelPool(models)
    given = list(runs)
    kept = [run for run in usable(team, pool.ids, given)[0] if run.propensity is not None and run.models]
    if not kept:
        raise DataError("no run has both a success and a propensity: draw models by lot, as exploration_plan does, and log both")
    costs = CostModel(team, pool).fit(given)
    queries = embedded([run.query for run in kept], embedder)
    kinds = TaskKinds(seed=seed).fit(queries)
    log = _Log(team, pool, kept, kinds.of(queries), costs, willingness_to_pay)
    vectors = [query.embedding for query in queries if query.embedding is not None]
    if len({len(vector) for vector in vectors}) > 1:
        raise DataError("the vectors of the runs' tasks are of different lengths: leave out those of another embedder")
    centre = np.mean(vectors, axis=0) if vectors else np.zeros(as_embedder(embedder).fingerprint.dimension)
    x = inputs(queries, kinds, centre)
    known, (present, size) = described(team, pool, embedder), subsets(team)
    rng = np.random.default_rng(seed)
    weights = _train(torch, log, x, known, present, size, rng, (hidden, steps, batch), (rate, decay, entropy, clip))
    return MasRouterPolicy(
        team, pool, weights={**weights, **known, "centre": centre}, kinds=kinds, costs=costs, embedder=embedder
    )


class _Log:
    """Runs as arrays: what was drawn, with what chance, and how much better than usual it was.

    Attributes:
        columns: int64 [n, k].
        there: float64 [n, k], 1 where the role took part.
        modes: int64 [n].
        teams: int64 [n], places in `subsets`.
        chance: float64 [n], log of the propensity.
        gain: float64 [n], `advantages`.
        kinds: float64 [n, c + 1], how far each task is of each kind, and in the last column of none.
        allowed: bool [k, m].
    """

    def __init__(
        self, team: Team, pool: ModelPool, kept: Sequence[TeamRun], kinds: Floats, costs: CostModel, willingness: float
    ) -> None:
        seen = observed(team, pool.ids, kept)
        self.there = (seen.columns < len(pool.ids)).astype(np.float64)
        self.columns, self.modes = np.minimum(seen.columns, len(pool.ids) - 1), seen.modes
        self.teams = (subsets(team)[0][None] == self.there[:, None]).all(axis=2).argmax(axis=1)
        self.chance = np.log([float(run.propensity or 1.0) for run in kept])
        gain = seen.success.copy()
        if math.isfinite(willingness):
            usd = np.array([math.nan if run.cost is None else run.cost for run in kept])
            for place, mode in enumerate(team.modes):
                rows = np.isnan(usd) & (seen.modes == place)
                usd[rows] = costs.exact(mode.name, seen.columns[rows])
            if np.isnan(usd).any():
                raise DataError("costs count, and those of some runs are unknown: log them, or give the cards prices")
            gain -= usd / willingness
        self.gain = advantages(gain, kinds)
        self.kinds = np.concatenate([kinds, 1.0 - kinds.sum(axis=1, keepdims=True)], axis=1)
        self.allowed = costs.admissible()[:, :-1]


def advantages(gain: Floats, kinds: Floats) -> Floats:
    """How much more each run gained than the mean of its kind of task, in standard deviations of that, float64 [n].

    Args:
        gain: float64 [n].
        kinds: float64 [n, c], how far each run's task is of each kind.
    """
    overall = gain.mean()
    mean = (kinds.T @ gain + _SHRINKAGE * overall) / (kinds.sum(axis=0) + _SHRINKAGE)
    over = gain - overall - kinds @ (mean - overall)
    spread = float(over.std())
    return np.asarray(over / spread if spread > 1e-12 else np.zeros_like(over))


def _first(rng: np.random.Generator, width: int, hidden: int, known: Mapping[str, Floats], sizes: int) -> dict[str, Floats]:
    """Weights before training: small and at random; all sharpness 1, so that nothing is likely yet."""
    shapes = {name + "s": (known[name].shape[1], hidden) for name in known}
    shapes |= {"task": (width, hidden), "mode": (hidden, hidden), "number": (2 * hidden, sizes)}
    shapes |= {"role": (2 * hidden, hidden), "slot": (4 * hidden, hidden), "model": (hidden, hidden)}
    found: dict[str, Floats] = {}
    for name, (inner, outer) in shapes.items():
        found[f"{name}.weight"] = rng.normal(0.0, inner**-0.5, (outer, inner))
        found[f"{name}.bias"] = np.zeros(outer)
    return found | {f"{name}.sharp": np.zeros(()) for name in known}


def _train(
    torch: ModuleType,
    log: _Log,
    x: Floats,
    known: Mapping[str, Floats],
    present: Floats,
    size: Places,
    rng: np.random.Generator,
    counts: tuple[int, int, int],
    rates: tuple[float, float, float, float],
) -> dict[str, Floats]:
    (hidden, steps, batch), (rate, decay, entropy, clip) = counts, rates
    first = _first(rng, x.shape[1], hidden, known, int(size.max()) + 1)
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in first.items()}
    fixed = {name: torch.tensor(array) for name, array in known.items()}
    here, of_size = torch.tensor(present), torch.tensor(size)
    optimiser = torch.optim.AdamW(list(weights.values()), lr=rate, weight_decay=decay)
    data: dict[str, Any] = {name: torch.tensor(value) for name, value in vars(log).items()} | {"x": torch.tensor(x)}
    allowed = data.pop("allowed")
    order = np.zeros(0, np.int64)
    total = torch.zeros(data["kinds"].shape[1], dtype=torch.float64)
    count = torch.zeros_like(total)
    for _ in range(steps):
        if len(order) < min(batch, len(x)):
            order = np.concatenate([order, rng.permutation(len(x))])
        rows, order = torch.tensor(order[:batch]), order[batch:]
        net = Cascade(torch, {**weights, **fixed}, here, of_size)
        likely, spread = _likely(net, {name: value[rows] for name, value in data.items()}, allowed)
        weight = torch.exp(likely.detach() - data["chance"][rows])
        gain, kind = data["gain"][rows], data["kinds"][rows]
        # What the policy gains by now on each kind of task: a running mean that soon forgets what it did before. Its weights are
        # not cut off: too low a baseline would favour whatever the lot drew often.
        total = _KEEP * total + kind.T @ (weight * gain)
        count = _KEEP * count + kind.T @ weight
        loss = -(weight.clamp(max=clip) * (gain - kind @ (total / (count + _SHRINKAGE))) * likely).mean() - entropy * spread
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: value.detach().numpy() for name, value in weights.items()}


def _likely(net: Cascade, rows: Mapping[str, Any], allowed: Any) -> tuple[Any, Any]:
    """Log chance of each run under the policy, [n], and how unsure the policy is at each step, in nats, the mean over runs."""
    xp, each = net.xp, net.xp.arange(len(rows["modes"]))
    task = net.task(rows["x"])
    modes = net.modes(task)
    teams = net.teams(task, rows["modes"])
    models = net.models(task, rows["modes"], rows["teams"], allowed)
    slots = models[each[:, None], xp.arange(models.shape[1])[None], rows["columns"]]
    likely = modes[each, rows["modes"]] + teams[each, rows["teams"]] + (slots * rows["there"]).sum(-1)
    unsure = [-(xp.exp(one) * one).sum(-1) for one in (modes, teams, models)]
    parts = rows["there"].sum(-1)
    return likely, (unsure[0] + unsure[1] + (unsure[2] * rows["there"]).sum(-1) / parts).mean()
