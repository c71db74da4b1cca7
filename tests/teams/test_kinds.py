"""Kinds of tasks: labels, clusters of vectors, and tasks of no kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agentroute.embedders import as_embedder, normalise
from agentroute.errors import ConfigError, NotFittedError
from agentroute.teams._kinds import TaskKinds
from agentroute.types import Query


def labelled(**counts):
    return [Query(text=f"{label} {number}", task=label) for label, count in counts.items() for number in range(count)]


def clouds(n, kinds=3, *, seed=0, spread=0.1):
    """Vectors around orthogonal directions, and which."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, kinds, n)
    return normalise(np.eye(8)[of] + spread * rng.normal(size=(n, 8))), of


def embedded(vectors):
    return [Query(text=str(number), embedding=vector) for number, vector in enumerate(vectors)]


def test_labels_are_kinds_where_all_tasks_have_one():
    kinds = TaskKinds().fit(labelled(sums=10, facts=20))
    assert (kinds.by_, kinds.names_, len(kinds)) == ("task", ("facts", "sums"), 2)
    found = kinds.of([Query(text="", task="sums"), Query(text="", task="facts"), Query(text="", task="poems"), Query(text="")])
    assert found.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_labels_that_few_tasks_have_are_of_no_kind():
    kinds = TaskKinds().fit(labelled(sums=10, facts=5, poems=4))
    assert kinds.names_ == ("facts", "sums")
    assert TaskKinds().fit(labelled(sums=10, facts=4)).by_ == "none"
    many = TaskKinds().fit(labelled(**{f"kind{number:02}": 5 + number for number in range(40)}))
    assert many.names_ == tuple(f"kind{number:02}" for number in range(16, 40))


def test_one_task_without_a_label_makes_labels_useless():
    vectors, _ = clouds(90)
    queries = [
        Query(text=q.text, embedding=q.embedding, task=None if row == 7 else f"k{row % 2}")
        for row, q in enumerate(embedded(vectors))
    ]
    assert TaskKinds().fit(queries).by_ == "cluster"


def test_one_label_for_all_tells_nothing_apart_not_even_by_their_vectors():
    vectors, _ = clouds(90)
    assert TaskKinds().fit([Query(text="", embedding=vector, task="all") for vector in vectors]).by_ == "none"


def test_clusters_are_the_clouds():
    vectors, of = clouds(300)
    kinds = TaskKinds(most=3).fit(embedded(vectors))
    assert (kinds.by_, len(kinds)) == ("cluster", 3)
    found = kinds.of(embedded(vectors))
    assert found.sum(axis=1) == pytest.approx(1.0)
    for kind in range(3):
        assert len(set(found.argmax(axis=1)[of == kind].tolist())) == 1
    assert np.linalg.norm(kinds.centres_, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_task_between_two_kinds_is_half_of_each_and_one_without_a_vector_of_none():
    vectors, _ = clouds(300, spread=0.05)
    kinds = TaskKinds(most=3).fit(embedded(vectors))
    middle = normalise((kinds.centres_[0] + kinds.centres_[1])[None])
    found = kinds.of([*embedded(middle), Query(text="no vector"), Query(text="blank", embedding=np.zeros(8, np.float32))])
    assert found[0] == pytest.approx([0.5, 0.5, 0.0], abs=1e-3)
    assert not found[1:].any()


@pytest.mark.parametrize(("tasks", "clusters"), [(59, 0), (60, 2), (89, 2), (90, 3), (300, 8), (3000, 8)])
def test_more_tasks_bear_more_clusters(tasks, clusters):
    vectors, _ = clouds(tasks, kinds=8)
    assert len(TaskKinds().fit(embedded(vectors))) == clusters


def test_a_task_that_was_run_often_is_one_task():
    vectors, _ = clouds(50)
    assert TaskKinds().fit(embedded(np.repeat(vectors, 10, axis=0))).by_ == "none"


def test_tasks_without_vectors_or_with_vectors_of_two_embedders_are_of_no_kind():
    vectors, _ = clouds(100)
    assert TaskKinds().fit([*embedded(vectors), Query(text="no vector")]).by_ == "none"
    assert TaskKinds().fit([*embedded(vectors), Query(text="", embedding=np.ones(4, np.float32) / 2)]).by_ == "none"
    kinds = TaskKinds().fit([])
    assert (kinds.by_, len(kinds), kinds.of([Query(text="")]).shape) == ("none", 0, (1, 0))


def test_a_vector_of_another_embedder_is_refused():
    kinds = TaskKinds().fit(embedded(clouds(100)[0]))
    with pytest.raises(ConfigError, match="same embedder"):
        kinds.of([Query(text="", embedding=np.ones(4, np.float32) / 2)])


def test_the_order_of_tasks_does_not_matter_and_the_same_seed_gives_the_same_kinds():
    vectors, _ = clouds(200)
    one, other = TaskKinds(seed=3).fit(embedded(vectors)), TaskKinds(seed=3).fit(embedded(vectors[::-1]))
    np.testing.assert_array_equal(one.centres_, other.centres_)


def test_another_seed_may_find_other_kinds():
    vectors = normalise(np.random.default_rng(0).normal(size=(120, 8)))  # no clouds at all
    found = {TaskKinds(seed=seed).fit(embedded(vectors)).centres_.tobytes() for seed in range(4)}
    assert len(found) > 1


def test_fitting_again_forgets():
    kinds = TaskKinds().fit(embedded(clouds(100)[0])).fit(labelled(sums=10, facts=10))
    assert kinds.by_ == "task"
    assert kinds.centres_ is None
    assert kinds.fit([]).names_ == ()


@pytest.mark.parametrize("queries", [[], labelled(sums=10, facts=20), embedded(clouds(100)[0])])
def test_state_holds_all(queries):
    kinds = TaskKinds(most=4, seed=2).fit(queries)
    again = TaskKinds.from_state(json.loads(json.dumps(kinds.state())))
    asked = (
        [*labelled(sums=2, facts=2), *embedded(clouds(5, seed=9)[0])]
        if kinds.by_ != "cluster"
        else embedded(clouds(5, seed=9)[0])
    )
    np.testing.assert_array_equal(again.of(asked), kinds.of(asked))
    assert (again.by_, again.names_, again.most, again.seed) == (kinds.by_, kinds.names_, 4, 2)
    assert repr(again) == repr(kinds)


def test_real_texts_of_two_kinds_are_told_apart():
    texts = [f"What is {a} plus {b}?" for a in range(11, 19) for b in range(5, 10)]
    texts += [
        f"Translate '{noun} is {what}' into French."
        for noun in "dog cat bread house river moon".split()
        for what in "good big old red here lost gone".split()
    ]
    vectors = as_embedder(None).embed(texts)
    found = TaskKinds(most=2).fit(embedded(vectors)).of(embedded(vectors)).argmax(axis=1)
    assert len(set(found[:40].tolist())) == len(set(found[40:].tolist())) == 1
    assert found[0] != found[-1]


def test_options_and_order_of_calls_are_checked():
    with pytest.raises(ConfigError, match="most"):
        TaskKinds(most=-1)
    with pytest.raises(NotFittedError, match="call fit"):
        TaskKinds().of([])
    assert repr(TaskKinds()) == "TaskKinds()"
    assert repr(TaskKinds().fit([])) == "TaskKinds(none)"
    assert repr(TaskKinds().fit(labelled(sums=10, facts=10))) == "TaskKinds(2 by task)"
