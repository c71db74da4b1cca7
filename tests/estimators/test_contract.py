import numpy as np
import pytest

from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.testing import estimator_checks

MAKERS = {
    "knn": KNNEstimator,
    "knn-fixed": lambda: KNNEstimator(k=20, width=0.2, prior_weight=3.0),
    "knn-no-labels": lambda: KNNEstimator(label_counts=np.inf),
    "knn-graph": lambda: KNNEstimator(k=20, width=0.2, prior_weight=3.0, approximate_from=300),
    "mean": MeanEstimator,
}
CASES = [(name, check) for name, make in MAKERS.items() for check in estimator_checks(make)]


@pytest.mark.parametrize(("name", "check"), CASES, ids=[f"{name}-{check.__name__}" for name, check in CASES])
def test_contract(name, check):
    check()


class Leaky(MeanEstimator):
    """Breaks the contract: predicts rows of the log from themselves."""

    def fit(self, table, /):
        self.table = table
        return super().fit(table)

    def cross_predict(self, table, rows, /):
        from dataclasses import replace

        return replace(super().cross_predict(table, rows), quality=table.quality[rows])


def test_the_suite_finds_a_leak():
    check = next(check for check in estimator_checks(Leaky) if check.__name__ == "check_out_of_fold")
    with pytest.raises(AssertionError, match="own outcome"):
        check()
