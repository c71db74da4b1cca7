import json
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import Query

EMBEDDER = HashEmbedder()


def asked(text, **labels):
    return Query(text=text, embedding=EMBEDDER.embed([text])[0], fingerprint=EMBEDDER.fingerprint, **labels)


def by_hand(table, query, *, k, width, weight):
    """The formula of the docstring, written out for one query without labels."""
    similarity = table.embeddings @ query.embedding
    near = np.argsort(-similarity, kind="stable")[:k]
    w = np.exp((similarity[near] - 1) / width)[:, None]
    out = []
    for part in (table.quality, table.cost, table.latency):
        mean, values = np.nanmean(part, axis=0), part[near]
        seen = np.isfinite(values)
        total = (w * np.where(seen, values - mean, 0)).sum(axis=0)
        out.append(np.clip(mean + total / ((w * seen).sum(axis=0) + weight), np.nanmin(part, axis=0), np.nanmax(part, axis=0)))
    return out


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    k=st.integers(1, 60),
    width=st.floats(0.02, 2),
    weight=st.floats(0.01, 50),
    holes=st.sampled_from([0.0, 0.3, 0.8]),
)
def test_estimates_equal_the_formula(seed, k, width, weight, holes):
    rng = np.random.default_rng(seed)
    table = planted_table(80, seed=seed)
    table = replace(
        table,
        # Distinct random vectors: with ties, which neighbour is the k-th is a matter of taste.
        embeddings=(v := rng.standard_normal((80, 32)).astype(np.float32)) / np.linalg.norm(v, axis=1, keepdims=True),
        quality=np.where(rng.random(table.quality.shape) < holes, np.nan, table.quality),
        cost=np.where(rng.random(table.cost.shape) < holes, np.nan, table.cost),
    )
    query = Query(text="x", embedding=table.embeddings[3] * np.float32(0.6) + table.embeddings[5] * np.float32(0.4))
    estimate = KNNEstimator(k=k, width=width, prior_weight=weight, min_rows=1).fit(table).predict([query])
    quality, cost, latency = by_hand(table, query, k=k, width=width, weight=weight)
    np.testing.assert_allclose(estimate.quality[0], quality, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(estimate.cost[0], cost, rtol=1e-3)
    np.testing.assert_allclose(estimate.latency[0], latency, rtol=1e-3)


def test_a_label_alone_decides_where_the_text_says_nothing():
    table = planted_table(600, noise=0.05)
    blind = replace(table, embeddings=EMBEDDER.embed(["the same words"] * len(table)))
    estimator = KNNEstimator().fit(blind)
    for kind in range(3):
        estimate = estimator.predict([asked("the same words", task=f"kind{kind}")])
        assert estimate.quality[0].argmax() == kind
    plain = estimator.predict([asked("the same words")]).quality[0]
    unknown = estimator.predict([asked("the same words", task="never seen")]).quality[0]
    np.testing.assert_allclose(plain, unknown)
    assert np.ptp(plain) < 0.15  # without its label the kinds cannot be told apart


def test_a_query_without_label_still_has_its_neighbours():
    # With labels the log needs no neighbours at all; without one they are all that there is.
    estimator = KNNEstimator().fit(planted_table(600))
    assert estimator.kernel_.prior_weight > estimator.bare_kernel_.prior_weight
    texts = [f"kind{kind} word{kind} topic{kind} other" for kind in range(3)]
    queries = [asked(texts[0]), asked(texts[1], task="kind1"), asked(texts[2], task="unheard of")]
    mixed = estimator.predict(queries)
    assert mixed.quality.argmax(axis=1).tolist() == [0, 1, 2]
    for row, query in enumerate(queries):
        single = estimator.predict([query])
        np.testing.assert_allclose(single.quality[0], mixed.quality[row], rtol=1e-5)
        k = single.neighbours.shape[1]
        assert mixed.neighbours[row, :k].tolist() == single.neighbours[0].tolist()


def test_roles_and_tags_add_up():
    rng = np.random.default_rng(0)
    n = 800
    role, region = rng.integers(0, 2, n), rng.integers(0, 2, n)
    quality = np.clip(
        0.3 + 0.3 * role[:, None] * [1, 0] + 0.3 * region[:, None] * [0, 1] + 0.02 * rng.standard_normal((n, 2)), 0, 1
    )
    queries = tuple(Query(text="same", id=str(i), role=f"r{role[i]}", tags={"region": f"g{region[i]}"}) for i in range(n))
    table = replace(planted_table(n, models=2), queries=queries, quality=quality, embeddings=EMBEDDER.embed(["same"] * n))
    estimator = KNNEstimator().fit(table)
    both = estimator.predict([asked("same", role="r1", tags={"region": "g1"})]).quality[0]
    first = estimator.predict([asked("same", role="r1", tags={"region": "g0"})]).quality[0]
    np.testing.assert_allclose(both, [0.6, 0.6], atol=0.03)
    np.testing.assert_allclose(first, [0.6, 0.3], atol=0.03)
    # A role alone: its effect at the mean of the regions.
    np.testing.assert_allclose(estimator.predict([asked("same", role="r1")]).quality[0], [0.6, 0.45], atol=0.03)


def test_pure_noise_falls_back_to_the_means():
    table = planted_table(1000, kinds=1)
    noise = np.random.default_rng(5).random(table.quality.shape) * [1.0, 0.9, 0.8]
    estimator = KNNEstimator().fit(replace(table, quality=noise))
    means = noise.mean(axis=0)
    assert estimator.kernel_.prior_weight >= 30
    np.testing.assert_allclose(
        estimator.predict([asked(q.text) for q in table.queries[:50]]).quality, np.tile(means, (50, 1)), atol=0.1
    )


def test_planted_kinds_are_found_without_labels():
    table = planted_table(600)
    bare = replace(table, queries=tuple(Query(text=q.text, id=q.id) for q in table.queries))
    estimator = KNNEstimator().fit(bare)
    for kind in range(3):
        estimate = estimator.predict([asked(f"kind{kind} word{kind} topic{kind} something")])
        assert estimate.quality[0].argmax() == kind
        assert estimate.quality[0].max() > 0.7


def test_cost_is_the_neighbours_billed_cost():
    table = planted_table(600)
    long = np.array([q.task == "kind1" for q in table.queries])
    estimator = KNNEstimator().fit(replace(table, cost=np.where(long[:, None], 10.0, 1.0) * table.cost))
    dear = estimator.predict([asked("kind1 word1 topic1")]).cost[0]
    cheap = estimator.predict([asked("kind2 word2 topic2")]).cost[0]
    assert (dear / cheap > 5).all()


def test_strange_queries_are_unsupported():
    estimator = KNNEstimator().fit(planted_table(400))
    strange, usual = asked("zzz yyy xxx www vvv"), asked("kind1 word1 topic1 item9 xx")
    assert estimator.predict([usual]).supported.tolist() == [True]
    assert estimator.predict([strange, asked("")]).supported.tolist() == [False, False]


def test_repeated_prompts_do_not_make_new_ones_strange():
    once = planted_table(100)
    several = once.take(np.repeat(np.arange(100), 6))
    ids = tuple(replace(query, id=f"{query.id}-{i}") for i, query in enumerate(several.queries))
    new = [asked(query.text) for query in planted_table(200, seed=5).queries]
    supported = KNNEstimator().fit(replace(several, queries=ids)).predict(new).supported
    assert supported.mean() > 0.95
    np.testing.assert_array_equal(supported, KNNEstimator().fit(once).predict(new).supported)


def test_a_model_with_few_scores_is_not_ranked():
    table = planted_table(400)
    quality = table.quality.copy()
    quality[:, 0] = np.nan
    quality[:29, 0] = 1.0  # one short of min_rows
    few = KNNEstimator().fit(replace(table, quality=quality)).predict([asked("kind1 word1 topic1")]).quality[0]
    assert np.isnan(few[0])
    assert np.isfinite(few[1:]).all()
    quality[29, 0] = 1.0
    enough = KNNEstimator().fit(replace(table, quality=quality)).predict([asked("kind1 word1 topic1")]).quality[0]
    assert np.isfinite(enough).all()
    assert np.isnan(KNNEstimator().fit(planted_table(10)).predict([asked("kind1")]).quality).all()


def test_out_of_fold_predictions_use_what_predict_would_use():
    # Four rows in five have no label: predict gives them the constants for such queries, and so must cross_predict.
    table = planted_table(600)
    queries = tuple(replace(q, task=None) if i % 5 else q for i, q in enumerate(table.queries))
    mixed = replace(table, queries=queries)
    estimator = KNNEstimator().fit(mixed)
    fresh = planted_table(600, seed=1)
    new = [asked(q.text, task=None if i % 5 else q.task) for i, q in enumerate(fresh.queries)]
    out = np.abs(estimator.cross_predict(mixed, np.arange(600)).quality - table.quality).mean()
    ahead = np.abs(estimator.predict(new).quality - fresh.quality).mean()
    assert out == pytest.approx(ahead, rel=0.1)


def test_no_prior_and_no_shrinkage_are_legal():
    table = planted_table(300)
    holed = replace(table, quality=np.where(np.random.default_rng(0).random((300, 3)) < 0.7, np.nan, table.quality))
    queries = [asked(q.text, task=q.task) for q in table.queries[:80]]
    for options in ({"prior_weight": 0.0, "k": 3}, {"label_counts": 0.0}):
        assert np.isfinite(KNNEstimator(**options).fit(holed).predict(queries).quality).all()


def test_the_setting_nearest_to_the_prior_wins_within_a_standard_error():
    from agentroute.estimators._kernel import Kernel, _nearest_to_prior

    grid = [
        Kernel(k=20, width=0.1, prior_weight=1.0),
        Kernel(k=20, width=0.1, prior_weight=30.0),
        Kernel(k=20, width=0.1, prior_weight=100.0),
    ]
    noise = np.random.default_rng(0).standard_normal((3, 400))
    best = 1.0 + 0.1 * noise[0]
    close, far = best + 0.002 + 0.1 * noise[1], best + 0.2 + 0.1 * noise[2]
    assert _nearest_to_prior(np.stack([best, close, far]), grid) == 1
    assert _nearest_to_prior(np.stack([best, far, far]), grid) == 0


def test_partial_fit_equals_fit_with_the_same_constants():
    table = planted_table(300)
    constants = {"k": 20, "width": 0.3, "prior_weight": 2.0}
    first, rest = table.take(np.arange(200)), table.take(np.arange(200, 300))
    grown = KNNEstimator(**constants).fit(first).partial_fit(rest)
    whole = KNNEstimator(**constants).fit(table)
    queries = [asked(q.text, task=q.task) for q in table.queries[:40]]
    np.testing.assert_allclose(grown.predict(queries).quality, whole.predict(queries).quality, rtol=1e-5)
    np.testing.assert_allclose(grown.predict(queries).cost, whole.predict(queries).cost, rtol=1e-5)


def test_partial_fit_replaces_known_cells():
    table = planted_table(200, noise=0.0)
    estimator = KNNEstimator(k=5, width=0.2, prior_weight=0.1).fit(table)
    before = estimator.predict([asked("kind0 word0 topic0")]).quality[0, 0]
    estimator.partial_fit(replace(table, quality=np.where(np.arange(3) == 0, 0.0, np.nan) * np.ones((200, 1))))
    assert before > 0.5
    assert estimator.predict([asked("kind0 word0 topic0")]).quality[0, 0] == 0.0
    assert len(estimator.queries_) == 200


def test_partial_fit_leaves_cells_that_the_news_do_not_hold():
    table = planted_table(100)
    estimator = KNNEstimator(k=5, width=0.2, prior_weight=1.0).fit(table)
    before = estimator.logged(7)[1]
    estimator.partial_fit(replace(table, quality=np.full((100, 3), np.nan), cost=np.full((100, 3), np.nan)))
    assert estimator.logged(7)[1] == before


def test_partial_fit_joins_rows_of_one_query():
    estimator = KNNEstimator().fit(planted_table(100))
    query = Query(text="new", id="n1")
    table = replace(
        planted_table(2, models=2),
        queries=(query, query),
        quality=np.array([[1.0, np.nan], [np.nan, 0.5]]),
        embeddings=EMBEDDER.embed(["new", "new"]),
    )
    estimator.partial_fit(table)
    assert len(estimator.queries_) == 101
    assert estimator.logged(100)[1] == {"m0": 1.0, "m1": 0.5}


def test_a_new_model_joins_by_probes():
    table = planted_table(500)
    estimator = KNNEstimator().fit(table)
    # Two hundred probes on queries of the log: the newcomer is right wherever the kind is 2, and nowhere else.
    probes = table.take(np.arange(200))
    good = np.array([[1.0 if q.task == "kind2" else 0.0] for q in probes.queries])
    one = np.ones_like(good)
    estimator.partial_fit(replace(probes, models=("new",), quality=good, cost=1e-4 * one, latency=0.1 * one, samples=one))
    assert estimator.models_ == ("m0", "m1", "m2", "new")
    assert len(estimator.queries_) == 500
    at_home = estimator.predict([asked("kind2 word2 topic2", task="kind2")]).quality[0]
    abroad = estimator.predict([asked("kind0 word0 topic0", task="kind0")]).quality[0]
    assert at_home.argmax() == 3
    assert abroad.argmax() == 0
    assert abroad[3] < 0.3


def test_readers_never_see_half_of_an_update():
    table = planted_table(2000)
    estimator = KNNEstimator(k=20, width=0.2, prior_weight=1.0, approximate_from=600).fit(table.take(np.arange(400)))
    failures, stop = [], threading.Event()

    def read():
        queries = [asked(q.text) for q in table.queries[:20]]
        while not stop.is_set():
            try:
                for query in queries:
                    assert np.isfinite(estimator.predict([query]).quality).all()
            except Exception as error:  # reported below
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(400, 2000, 100):
        estimator.partial_fit(table.take(np.arange(start, start + 100)))
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert len(estimator.queries_) == 2000


def test_a_refit_and_a_save_beside_readers_and_writers():
    table, small = planted_table(900), planted_table(60, seed=3)
    estimator = KNNEstimator(k=30, width=0.3, prior_weight=1.0).fit(table)
    queries, failures, stop = [asked(q.text) for q in table.queries[:100]], [], threading.Event()

    def repeat(work):
        while not stop.is_set():
            try:
                work()
            except Exception as error:
                failures.append(error)
                return

    def save():
        config, arrays = estimator.state()
        assert len(config["queries"]) == len(arrays["vectors"]) == len(arrays["values"])

    workers = [threading.Thread(target=repeat, args=(work,)) for work in (lambda: estimator.predict(queries), save)]
    for worker in workers:
        worker.start()
    for step in range(12):
        estimator.fit(small if step % 2 else table)
        estimator.partial_fit(table.take(np.arange(step * 50, step * 50 + 50)))
    stop.set()
    for worker in workers:
        worker.join()
    assert not failures


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"width": 0.0}, {"prior_weight": -1.0}, {"label_counts": -1.0}, {"support_quantile": 1.0}],
    ids=str,
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        KNNEstimator(**options).fit(planted_table(60))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 2.5},
        {"k": "5"},
        {"width": "wide"},
        {"width": np.nan},
        {"prior_weight": "1"},
        {"label_counts": None},
        {"support_quantile": "0"},
        {"support_quantile": np.nan},
        {"min_rows": 2.5},
        {"min_rows": "30"},
        {"min_rows": -1},
        {"approximate_from": None},
        {"seed": None},
        {"seed": -1},
    ],
)
def test_options_of_another_kind_are_named(options):
    [(name, value)] = options.items()
    with pytest.raises(ConfigError, match=rf"KNNEstimator\({name}={re.escape(repr(value))}\) is out of range"):
        KNNEstimator(**options).fit(planted_table(40))


@pytest.mark.parametrize("rows", [40, 60])
def test_options_of_numpy_are_saved_as_plain_numbers(rows):
    given = {
        "k": np.int64(5),
        "width": np.float32(0.5),
        "prior_weight": np.float64(2.0),
        "label_counts": np.float32(5.0),
        "min_rows": np.int64(3),
        "support_quantile": np.float32(0.25),
        "approximate_from": np.int32(1000),
        "seed": np.uint8(1),
        "keep_prompts": np.True_,
    }
    table = planted_table(rows)
    config, arrays = KNNEstimator(**given).fit(table).state()
    again = KNNEstimator.from_state(json.loads(json.dumps(config)), arrays)
    assert {name: getattr(again, name) for name in given} == given
    assert again.kernel_.k == 5


@pytest.mark.parametrize("value", [2.5, "3", -1, None])
def test_the_means_check_their_option(value):
    with pytest.raises(ConfigError, match=r"MeanEstimator\(min_rows=.*\) is out of range: give a whole number, 0 or more"):
        MeanEstimator(min_rows=value).fit(planted_table(40))


def test_the_means_save_an_option_of_numpy():
    config, arrays = MeanEstimator(min_rows=np.int64(3)).fit(planted_table(40)).state()
    assert MeanEstimator.from_state(json.loads(json.dumps(config)), arrays).min_rows == 3


def test_vectors_are_needed_and_must_fit():
    table = planted_table(60)
    with pytest.raises(ConfigError, match="embeddings"):
        KNNEstimator().fit(replace(table, embeddings=None, fingerprint=None))
    estimator = KNNEstimator().fit(table)
    with pytest.raises(ConfigError, match="no embedding"):
        estimator.predict([Query(text="x")])
    with pytest.raises(ConfigError, match="dimensions"):
        estimator.predict([Query(text="x", embedding=np.ones(5, np.float32))])


def test_one_row_is_not_an_error():
    table = planted_table(200).take([0])
    for estimator in (KNNEstimator(), MeanEstimator()):
        estimate = estimator.fit(table).predict([asked("kind0")])
        assert np.isnan(estimate.quality).all()
        np.testing.assert_allclose(estimate.cost[0], table.cost[0])


def test_prompts_are_kept_only_when_asked():
    table = planted_table(60)
    assert all(query.text == "" for query in KNNEstimator().fit(table).queries_)
    assert KNNEstimator(keep_prompts=True).fit(table).queries_[0].text == table.queries[0].text
