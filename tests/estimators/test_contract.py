from dataclasses import replace

import numpy as np
import pytest

from agentroute.estimators import KNNEstimator, LogisticEstimator, MeanEstimator, MLPEstimator
from agentroute.testing import estimator_checks

MAKERS = {
    "knn": KNNEstimator,
    "knn-fixed": lambda: KNNEstimator(k=20, width=0.2, prior_weight=3.0),
    "knn-no-labels": lambda: KNNEstimator(label_counts=np.inf),
    "knn-graph": lambda: KNNEstimator(k=20, width=0.2, prior_weight=3.0, approximate_from=300),
    "logistic": LogisticEstimator,
    "logistic-fixed": lambda: LogisticEstimator(c=3.0),
    "mean": MeanEstimator,
    "mlp": MLPEstimator,
}
CASES = [(name, check) for name, make in MAKERS.items() for check in estimator_checks(make)]


@pytest.mark.parametrize(("name", "check"), CASES, ids=[f"{name}-{check.__name__}" for name, check in CASES])
def test_contract(name, check):
    check()


class Leaky(KNNEstimator):
    """Breaks the contract: predicts rows of the log with themselves among the neighbours."""

    def cross_predict(self, table, rows, /):
        asked = [replace(table.queries[i], embedding=table.embeddings[i], fingerprint=table.fingerprint) for i in rows.tolist()]
        return self.predict(asked)


class HoleIsZero(MeanEstimator):
    """Breaks the contract: takes a missing cell for a bad answer."""

    def fit(self, table, /):
        return super().fit(replace(table, quality=np.nan_to_num(table.quality)))


class Forgetful(MeanEstimator):
    """Breaks the contract: loses something when saved."""

    @classmethod
    def from_state(cls, config, arrays, /):
        return super().from_state(config, {name: array * 0.5 for name, array in arrays.items()})


@pytest.mark.parametrize(
    ("make", "name"),
    [(Leaky, "check_out_of_fold"), (HoleIsZero, "check_unobserved_model"), (Forgetful, "check_state")],
)
def test_the_suite_finds_what_it_is_for(make, name):
    check = next(check for check in estimator_checks(make) if check.__name__ == name)
    with pytest.raises(AssertionError):
        check()
