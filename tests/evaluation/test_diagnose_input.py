"""What a diagnosis does with logs that are thin, holed, odd or wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentroute.embedders import CallableEmbedder, normalise
from agentroute.errors import ConfigError, DataError, LowSupportWarning
from agentroute.estimators import MeanEstimator
from agentroute.evaluation._diagnose import _drawings, diagnose
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.testing import planted_table
from agentroute.types import Query

OPEN_DATA = Path(__file__).parents[2] / "../shared/data/routerdc7.outcomes.parquet"


def kinds(diagnosis):
    return {finding.kind for finding in diagnosis.findings}


def unused(diagnosis):
    [finding] = [one for one in diagnosis.findings if one.kind == "holdout"]
    return finding.text


def test_one_model_leaves_nothing_to_choose(logs):
    log = logs.noise(0, 200).select(["m1"])
    found = diagnose(log, resamples=50)
    assert found.verdict == "single model"
    assert found.headline == "Single model: m1 is the only model, there is nothing to choose between."
    assert (found.votes, found.cascades, found.queries_needed) == ((), (), None)
    assert found.top_two[0] == ("m1", "m1")
    assert found.gaps.total.value == 0.0
    assert found.evaluation["routed"].quality.value == pytest.approx(log.quality.mean())


def test_one_query_is_too_few_and_the_error_says_how_many_it_takes(logs):
    with pytest.raises(DataError, match=r"1 of 1 queries have scores of all of the 3 models: at least 10 are needed"):
        diagnose(logs.noise(0, 1))


def test_ten_queries_are_diagnosed_and_nine_are_not(logs):
    with pytest.raises(DataError, match="9 of 9"):
        diagnose(logs.noise(0, 9))
    with pytest.warns(LowSupportWarning):
        found = diagnose(logs.noise(0, 10), resamples=50)
    assert found.verdict == "need more data"
    assert found.queries_needed >= 100


def test_a_model_without_scores_is_left_out_by_name(logs):
    log = logs.noise(0, 200)
    blank = replace(log, quality=np.where(np.arange(3) == 1, np.nan, log.quality))
    found = diagnose(blank, resamples=50)
    assert [single.model for single in found.singles if single.model == "m1"] == []
    [hole] = [finding for finding in found.findings if finding.kind == "holes"]
    assert (hole.model, hole.text) == ("m1", "m1 has no score in this log and is left out.")
    assert found.evaluation.queries == 200
    with pytest.raises(DataError, match="holds no score"):
        diagnose(replace(log, quality=np.full((200, 3), np.nan)))


def test_a_model_that_joined_yesterday_does_not_hide_the_others(logs):
    log = logs.noise(0, 300)
    late = replace(log, quality=np.where((np.arange(3) == 2) & (np.arange(300)[:, None] < 260), np.nan, log.quality))
    found = diagnose(late, resamples=50)
    assert found.evaluation.queries == 300
    assert {"m0", "m1"} == {single.model for single in found.singles}
    assert any(one.model == "m2" and "only 40 scores" in one.text for one in found.findings)
    # Not for a few queries more.
    most = replace(log, quality=np.where((np.arange(3) == 2) & (np.arange(300)[:, None] < 220), np.nan, log.quality))
    nearly = most.take(np.arange(190, 300))
    assert diagnose(nearly, resamples=50).evaluation.queries == 80
    # With a hundred common queries, all are compared on these.
    early = replace(log, quality=np.where((np.arange(3) == 2) & (np.arange(300)[:, None] < 200), np.nan, log.quality))
    found = diagnose(early, resamples=50)
    assert found.evaluation.queries == 100
    assert any("100 of 300 queries" in one.text for one in found.findings)


def test_a_log_of_turns_is_refused_with_what_to_do(logs):
    log = logs.noise(0, 300)
    turns = replace(log, quality=np.where(np.arange(300)[:, None] % 3 == np.arange(3), log.quality, np.nan))
    with pytest.raises(DataError, match=r"0 of 300 queries.*agentroute collect"):
        diagnose(turns)


def test_negative_costs_do_not_get_as_far(logs):
    log = logs.noise(0, 20)
    with pytest.raises(DataError, match=r"row 0.*cost.*-"):
        replace(log, cost=np.full((20, 3), -0.1))


def test_rows_of_one_id_count_as_one_query(logs):
    """A table keeps rows of one id apart; they fall into one fold, and are drawn together."""
    log = logs.noise(0, 150, (0.5, 0.8))
    doubled = replace(log.take(np.repeat(np.arange(150), 2)))
    found, once = diagnose(doubled, resamples=400), diagnose(log, resamples=400)
    assert len(doubled) == 300
    assert found.evaluation.queries == 150
    assert found.detectable_gain == pytest.approx(once.detectable_gain, rel=0.1)
    width = [one.singles[0].quality.high - one.singles[0].quality.low for one in (found, once)]
    assert width[0] == pytest.approx(width[1], rel=0.25)
    with pytest.raises(DataError, match="5 of 20"):
        diagnose(log.take(np.repeat(np.arange(5), 4)))


def test_more_queries_than_asked_for_are_sampled(logs):
    log = logs.noise(0, 500)
    found = diagnose(log, max_queries=200, resamples=50, options=np.full(500, 4.0))
    assert found.evaluation.queries == 200
    assert found.settings["sampled"] == "200 queries"
    assert found.settings["queries"] == "200 of 500"
    assert any("random 200" in one.text for one in found.findings)
    assert str(found) == str(diagnose(log, max_queries=200, resamples=50, options=np.full(500, 4.0)))


def test_large_logs_are_sampled_before_anything_slow():
    rows = 200_000
    quality = np.random.default_rng(0).random((rows, 2))
    queries = tuple(Query(text="", id=str(row)) for row in range(rows))
    vectors = normalise(np.random.default_rng(0).random((rows, 4)))
    made = CallableEmbedder(len, name="none", revision="1", dimension=4).fingerprint
    log = OutcomeTable(queries=queries, models=("a", "b"), quality=quality, embeddings=vectors, fingerprint=made)
    found = diagnose(log, max_queries=300, resamples=20)
    assert found.evaluation.queries == 300
    assert found.settings["queries"] == "300 of 200,000"


def test_a_larger_log_is_more_work_and_not_less():
    """Queries that are judged, by how many learn for them: in all drawings."""
    work = []
    for queries in (100, 500, 999, 1999, 3999, 4999, 6999, 10_000, 20_000):
        count, laps = _drawings(queries)
        work.append(queries * count * laps)
    assert work == sorted(work)
    assert _drawings(999) == (5, 3)


def test_a_holdout_of_other_models_is_compared_where_it_can_be(logs):
    log, holdout = logs.contaminated(0)
    renamed = replace(holdout, models=("m0", "m1", "m2", "m3", "x", "y"))
    found = diagnose(log, holdout=renamed, resamples=100)
    assert [shift.model for shift in found.shifts] == ["m0", "m1", "m2", "m3"]
    assert [one.model for one in found.findings if one.kind == "skill shift"] == ["m0"]
    strange = diagnose(log, holdout=replace(holdout, models=tuple("abcdef")), resamples=50)
    assert unused(strange) == "The holdout was not used: it has outcomes of a, b, c, d, e, f only, and none of the log's models."


def test_a_holdout_too_small_or_too_holed_is_said_to_be(logs):
    log, holdout = logs.contaminated(0)
    found = diagnose(log, holdout=holdout.take(np.arange(20)), resamples=50)
    assert found.shifts == ()
    assert found.settings["skill shift"].startswith("not tested: 20 of its queries have scores")
    assert unused(found).startswith("The holdout was not used: 20 of its queries have scores of all models")
    assert any("whether the scores hold" in reason for reason in found.reasons)


def test_options_have_to_fit_and_may_be_by_task(logs):
    log = logs.two_tasks(0, 120)
    with pytest.raises(DataError, match=r"options have the shape \(3,\)"):
        diagnose(log, options=[4, 4, 4])
    with pytest.raises(DataError, match="two options"):
        diagnose(log, options=1)
    found = diagnose(log, options={"task0": 4}, resamples=50)
    assert found.luck_floor == pytest.approx(1 - 0.75**2)
    with pytest.raises(
        ConfigError, match="options name 'other', none of which is a task of the log: the log has 'task0', 'task1'"
    ):
        diagnose(log, options={"other": 4})
    mixed = np.where(np.arange(120) < 30, 2.0, np.nan)
    assert diagnose(log, options=mixed, resamples=50).luck_floor == pytest.approx(0.75)


def test_repeats_show_how_much_of_the_oracle_is_luck(logs):
    rng = np.random.default_rng(0)
    shares = rng.binomial(10, np.where(rng.random((300, 1)) < 0.4, 0.95, 0.45), (300, 4)) / 10
    found = diagnose(logs.scored(shares, samples=np.full((300, 4), 10.0)), resamples=100)
    assert found.stable_oracle.value == pytest.approx((shares >= 0.8 - 1e-9).any(axis=1).mean())
    assert found.gaps.noise.value == pytest.approx(found.evaluation["oracle"].quality.value - found.stable_oracle.value)
    assert "luck inflation" in kinds(found)
    assert any("80 % of a model's samples" in one.text for one in found.findings)
    assert found.votes  # shares of samples can be voted on


def test_grades_are_not_voted_on(logs):
    found = diagnose(logs.scored(np.random.default_rng(0).random((150, 4))), resamples=50)
    assert found.votes == ()


def test_without_costs_quality_alone_is_compared(logs):
    found = diagnose(logs.noise(0, 150, costs=False), resamples=50)
    assert found.frontier is None
    assert found.cascades == ()
    assert any(one.text.startswith("What m0 and 2 others cost is not known") for one in found.findings)
    log = logs.noise(0, 150)
    part = np.where(np.arange(150)[:, None] < 20, log.cost, np.nan)
    assert diagnose(replace(log, cost=part), resamples=50).frontier is not None
    free = diagnose(replace(log, cost=np.zeros((150, 3))), resamples=50)
    assert free.verdict in {"single model", "need more data"}


def test_a_router_of_ones_own_is_judged_with_its_settings(logs):
    log = logs.two_tasks(0, 200)
    router = Router(["m1", "m0", "m9"], estimator=MeanEstimator(), embedder=refusing(log))
    found = diagnose(log, router=router, resamples=50)
    assert found.degeneracy.always  # means know no task
    assert found.degeneracy.model == found.evaluation.best_single
    assert "degenerate" in kinds(found)
    assert not router.fitted
    # Each fold's means are a little lower where its own scores are higher: across folds that would look like an inverted signal.
    assert [one.auroc.value for one in found.calibration] == pytest.approx([0.5, 0.5])
    assert {one.regime for one in found.calibration} == {"no signal"}
    with pytest.raises(ConfigError, match="pool does not hold 'm1'"):
        diagnose(log, router=Router(["m0", "m9"]))


def refusing(log):
    made = log.fingerprint
    return CallableEmbedder(lambda texts: 1 / 0, name=made.name, revision=made.revision, dimension=made.dimension)


def test_a_holdout_without_vectors_is_compared_as_one_kind(logs):
    log, holdout = logs.contaminated(0)
    found = diagnose(log, holdout=replace(holdout, embeddings=None, fingerprint=None), resamples=50)
    assert [one.model for one in found.findings if one.kind == "skill shift"] == ["m0"]


def test_odd_arguments_are_refused(logs):
    log = logs.noise(0, 50)
    for worthwhile in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="worthwhile"):
            diagnose(log, worthwhile=worthwhile)
    with pytest.raises(ConfigError, match="max_queries"):
        diagnose(log, max_queries=0)


def test_models_that_are_always_right_are_no_noise(logs):
    found = diagnose(logs.scored(np.ones((200, 3)), cost=np.array([0.1, 0.5, 1.0])), resamples=50)
    assert found.verdict == "single model"
    assert np.isnan(found.dependence.value)
    assert found.detectable_gain == 0.0
    assert [one.kind for one in found.findings] == ["degenerate"]
    assert not any("fail on the same queries" in line or "Nothing foresees" in line for line in found.reasons)


def routerdc(split, tasks):
    import pyarrow.parquet as pq

    names = ("task", "split", "query_id", "prompt", "model", "score")
    columns = pq.read_table(OPEN_DATA, columns=list(names)).to_pydict()
    rows, models, cells = {}, {}, {}
    for task, part, key, prompt, model, score in zip(*(columns[name] for name in names), strict=True):
        if part == split and task in tasks:
            row = rows.setdefault(key, (len(rows), Query(text=prompt, id=key, task=task)))[0]
            cells[row, models.setdefault(model, len(models))] = score
    quality = np.full((len(rows), len(models)), np.nan)
    for place, score in cells.items():
        quality[place] = score
    log = OutcomeTable(queries=tuple(query for _, query in rows.values()), models=tuple(models), quality=quality.clip(0, 1))
    # The vectors do not matter here, and making them takes most of the time.
    vectors = normalise(np.random.default_rng(0).standard_normal((len(log), 8)))
    return log.with_embeddings(vectors, CallableEmbedder(len, name="none", revision="1", dimension=8).fingerprint)


@pytest.mark.skipif(not OPEN_DATA.exists(), reason="the open pools are not beside the checkout")
def test_the_open_log_of_routerdc_gains_by_task_identity():
    """The figures of its own metric, a mean over its five tasks: best single 54.56, lookup 58.67, oracle 77.52."""
    five = ("mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval")
    train, test = (routerdc(split, five) for split in ("train", "test"))
    learned, judged = (diagnose(part, resamples=50, max_queries=20_000) for part in (train, test))
    for found in (learned, judged):
        assert found.verdict == "route"
        assert "task identity" in kinds(found)
    best = {task.task: task.best_model for task in learned.tasks}
    macro = {model: np.mean([task.quality[model] for task in learned.tasks]) for model in train.models}
    single = max(macro, key=macro.get)
    assert 100 * np.mean([task.quality[single] for task in judged.tasks]) == pytest.approx(54.56, abs=0.01)
    assert 100 * np.mean([task.quality[best[task.task]] for task in judged.tasks]) == pytest.approx(
        58.67, abs=0.02
    )  # copies count once here
    assert 100 * np.mean([task.oracle for task in judged.tasks]) == pytest.approx(77.52, abs=0.01)


@pytest.mark.skipif(not OPEN_DATA.exists(), reason="the open pools are not beside the checkout")
def test_the_contaminated_model_of_routerdc_is_found():
    """MetaMath was trained on what the training part of GSM8K asks."""
    found = diagnose(routerdc("train", ("gsm8k",)), holdout=routerdc("test", ("gsm8k",)), resamples=50)
    shifted = [one.model for one in found.findings if one.kind == "skill shift"]
    assert "MetaMath" in shifted[0]
    assert not {"mistralai/Mistral-7B-v0.1", "meta-llama/Meta-Llama-3-8B"} & set(shifted)  # base models
    assert "skill shift on model meta-math/MetaMath" in found.headline


def test_models_that_cost_nothing_are_diagnosed():
    table = planted_table(300)
    free = replace(table, quality=np.round(table.quality), cost=np.zeros_like(table.cost))
    assert "nan" not in str(diagnose(free, resamples=100)).casefold()


def test_a_cascade_of_free_models_costs_nothing_and_is_advised(logs):
    log = logs.difficulty(0, 600, skill=(0.5, 0.8, 1.0), cost=(1.0, 1.0, 1.0))
    found = diagnose(replace(log, cost=np.zeros((600, 3))), resamples=100)
    assert found.verdict == "cascade"
    assert "cost saved" not in found.headline
    assert found.cascades[2].saving.value == 0.0


def test_grades_are_no_coins_that_a_judge_could_call():
    table = planted_table(300)
    assert diagnose(table, resamples=100).cascades == ()
