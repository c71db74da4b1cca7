"""Metrics of routing, vectorised over bootstrap resamples.

Queries are rows and models columns: quality in [0, 1], cost in USD a call, latency in seconds, all float64 [n, m] and complete
unless a function says that NaN = not observed. `chosen` is int64 [n], the column of the chosen model, or float64 [n, m], the
chance of each model.

What is a mean over queries takes `weights`, which say how often each query counts: `None` (once), float64 [n], or [b, n] for b
resamples; with [b, n] the answer has a leading axis b. Weights need not be whole or add up to anything; a whole weight does the
same as repeating the row, and a row of zeros has NaN. The metrics of curves take points [b, k, 2] instead. So every metric gets
its interval from `agentroute.evaluation.bootstrap`:

```python
[interval] = bootstrap(lambda weights: metrics.vb(quality, chosen, weights=weights), len(quality))
```

Wrong data raise `agentroute.errors.DataError`, wrong options `ConfigError`. A figure that has no value (no way to go, nothing
observed) is NaN.
"""

from agentroute.evaluation.metrics._calibration import auroc, brier, cost_ratio, ece, r2, reliability
from agentroute.evaluation.metrics._choices import (
    entropy,
    gap_recovered,
    mean,
    mu,
    oracle_equivalent,
    oracle_mix,
    realised,
    regret,
    vb,
    vr,
)
from agentroute.evaluation.metrics._frontier import aiq, area, cost_at, hull, hull_at, pareto
from agentroute.evaluation.metrics._pairs import apgr, cpt, pgr

__all__ = [
    "aiq",
    "apgr",
    "area",
    "auroc",
    "brier",
    "cost_at",
    "cost_ratio",
    "cpt",
    "ece",
    "entropy",
    "gap_recovered",
    "hull",
    "hull_at",
    "mean",
    "mu",
    "oracle_equivalent",
    "oracle_mix",
    "pareto",
    "pgr",
    "r2",
    "realised",
    "regret",
    "reliability",
    "vb",
    "vr",
]
