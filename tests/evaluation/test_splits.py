from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import ByModel, ByQuery, ByTask, ByTime, KFold
from agentroute.testing import planted_table


def keys(table):
    return [query.key() for query in table.queries]


def doubled(table):
    """Each query twice: its rows must never be parted."""
    return table.take(np.repeat(np.arange(len(table)), 2))


@pytest.mark.parametrize("split", [ByQuery(test=0.4, repeats=3), KFold(count=4)])
def test_no_query_is_on_both_sides(split):
    for fold in split.folds(doubled(planted_table(60))):
        assert not set(keys(fold.train)) & set(keys(fold.test))
        assert len(fold.train) + len(fold.test) == 120


def test_k_folds_judge_every_query_once_whatever_the_order():
    table = planted_table(61)
    folds = list(KFold(count=4, seed=3).folds(table))
    assert Counter(key for fold in folds for key in keys(fold.test)) == Counter(keys(table))
    assert max(len(fold.test) for fold in folds) - min(len(fold.test) for fold in folds) <= 1
    turned = list(KFold(count=4, seed=3).folds(table.take(np.arange(61)[::-1])))
    assert [set(keys(one.test)) for one in folds] == [set(keys(one.test)) for one in turned]
    other = list(KFold(count=4, seed=4).folds(table))
    assert [set(keys(one.test)) for one in folds] != [set(keys(one.test)) for one in other]


def test_repeats_are_different_splits():
    first, second = ByQuery(repeats=2, seed=5).folds(planted_table(50))
    assert set(keys(first.test)) != set(keys(second.test))
    alone = next(ByQuery(seed=6).folds(planted_table(50)))
    assert keys(alone.test) == keys(second.test)


def test_one_task_is_left_out_at_a_time():
    table = planted_table(90)
    folds = list(ByTask().folds(table))
    assert sorted({query.task for query in table.queries}) == [fold.name.removeprefix("task ") for fold in folds]
    for fold in folds:
        name = fold.name.removeprefix("task ")
        assert {query.task for query in fold.test.queries} == {name}
        assert name not in {query.task for query in fold.train.queries}
    unnamed = replace(table, queries=tuple(replace(q, task=None) if i % 2 else q for i, q in enumerate(table.queries)))
    for fold in ByTask().folds(unnamed):
        assert sum(query.task is None for query in fold.train.queries) == 45
    with pytest.raises(DataError, match="two tasks"):
        list(ByTask().folds(replace(table, queries=tuple(replace(q, task="one") for q in table.queries))))


def test_time_flows_one_way_and_equal_moments_stay_together():
    table = planted_table(100)
    at = np.random.default_rng(0).permutation(100) // 10 * 3600.0 + 1.7e9
    [fold] = ByTime(test=0.35).folds(replace(table, at=at))
    assert fold.train.at.max() < fold.test.at.min()
    assert len(fold.test) == 40  # thirty-five and the rest of their hour
    assert fold.name == "from 2023-11-15"
    with pytest.raises(DataError, match="time of every query"):
        list(ByTime().folds(table))
    with pytest.raises(DataError, match="one moment"):
        list(ByTime().folds(replace(table, at=np.full(100, 1.7e9))))


def test_each_model_is_new_once_with_so_many_probes_of_the_training_part():
    table = planted_table(200)
    holed = replace(table, quality=np.where(np.arange(200)[:, None] % 4 == np.arange(3), np.nan, table.quality))
    folds = list(ByModel(probes=25).folds(holed))
    assert [fold.newcomer for fold in folds] == list(table.models)
    for fold in folds:
        assert len(fold.probes) == 25
        assert fold.probes.models == (fold.newcomer,)
        assert np.isfinite(fold.probes.quality).all()
        assert set(keys(fold.probes)) <= set(keys(fold.train))


def test_what_cannot_be_parted_is_refused():
    table = planted_table(20)
    for split, error in (
        (KFold(count=1), DataError),
        (KFold(count=21), DataError),
        (ByQuery(test=1.0), ConfigError),
        (ByQuery(repeats=0), ConfigError),
        (ByTime(test=0.0), ConfigError),
        (ByModel(probes=0), ConfigError),
    ):
        with pytest.raises(error):
            list(split.folds(table))
    with pytest.raises(DataError, match="two models"):
        list(ByModel().folds(table.select(["m0"])))
    with pytest.raises(DataError, match="holds 14 scores of 'm0', too few for 200 probes"):
        list(ByModel().folds(table))
    with pytest.raises(DataError, match="0 scores of 'm1'"):
        list(ByModel(probes=5).folds(replace(table, quality=np.where(np.arange(3) == 1, np.nan, table.quality))))


@pytest.mark.parametrize("split", [ByTask(), ByTime(test=0.5)])
def test_a_query_with_two_rows_is_never_on_both_sides(split):
    table = planted_table(60)
    # The same ids under another task and at another time: one question, logged twice.
    again = replace(
        table, queries=tuple(replace(query, task="again") for query in table.queries), at=np.arange(60) * 60.0 + 1.8e9
    )
    first = replace(table, at=np.arange(60) * 60.0 + 1.7e9)
    both = replace(
        first,
        queries=first.queries + again.queries,
        **{
            name: np.concatenate([getattr(first, name), getattr(again, name)])
            for name in ("quality", "cost", "latency", "at", "samples", "embeddings", "withheld")
        },
    )
    # Half of the second rows are gone: their queries were logged once.
    some = both.take(np.r_[np.arange(60), np.arange(60, 90)])
    for fold in split.folds(some):
        assert not set(keys(fold.train)) & set(keys(fold.test))
        assert len(fold.train)


def test_a_burst_at_the_start_leaves_what_came_after():
    table = replace(planted_table(100), at=np.r_[np.full(80, 1.7e9), np.full(20, 1.7e9 + 100)])
    [fold] = ByTime(test=0.3).folds(table)
    assert (len(fold.train), len(fold.test)) == (80, 20)
    [ten] = ByTime(test=0.7).folds(replace(planted_table(10), at=1.7e9 + np.arange(10)))
    assert (len(ten.train), len(ten.test)) == (3, 7)
