import gzip
import json
import math

import numpy as np
import pytest

from agentroute.cascades._answers import AnswerTable, agreements, same_answer
from agentroute.collection import load_ladder
from agentroute.errors import ConfigError, DataError, StorageError, UnknownModelError
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

ROWS = [
    {"query_id": "a", "prompt": "2 + 2?", "model": "s", "score": 1, "cost_usd": 0.1, "logprob": -0.2, "answer": "4"},
    {"query_id": "a", "prompt": "2 + 2?", "model": "l", "score": 1, "cost_usd": 0.9, "answer": "It is 4."},
    {"query_id": "b", "prompt": "Capital?", "model": "l", "score": 1, "cost_usd": 0.9, "logprob": -0.1, "answer": "Paris."},
    {
        "query_id": "b",
        "prompt": "Capital?",
        "model": "s",
        "score": 0,
        "cost_usd": 0.1,
        "signals": {"logprob": -3},
        "answer": "Rome",
    },
    {"query_id": "c", "prompt": "Who?", "model": "s", "score": 0, "cost_usd": 0.1, "logprob": -1, "answer": "me", "judge": 0.5},
]


def written(folder, rows=ROWS, name="log.jsonl"):
    file = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_reads_signals_answers_and_outcomes(tmp_path, name):
    answers = AnswerTable.from_jsonl(written(tmp_path, name=name), signals=["logprob", "judge", "length"])
    assert answers.models == ("s", "l")
    assert len(answers) == 3
    np.testing.assert_array_equal(answers.signals["logprob"], [[-0.2, np.nan], [-3, -0.1], [-1, np.nan]])
    np.testing.assert_array_equal(answers.signals["judge"], [[np.nan] * 2, [np.nan] * 2, [0.5, np.nan]])
    np.testing.assert_allclose(answers.signals["length"][0], [math.log(2), math.log(9)])
    np.testing.assert_array_equal(answers.agreement[:2, 0, 1], [1, 0])
    assert np.isnan(answers.agreement[2, 0, 1])  # the large model did not answer
    assert answers.agreement[2, 0, 0] == 1
    np.testing.assert_array_equal(answers.answered, [[True, True], [True, True], [True, False]])
    np.testing.assert_array_equal(answers.score_cost, np.zeros((3, 2)))


def test_reads_a_parquet_file(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = ("query_id", "prompt", "model", "score", "cost_usd", "logprob", "answer")
    table = pa.table({name: [row.get(name) for row in ROWS] for name in names})
    pq.write_table(table, tmp_path / "log.parquet")
    found = AnswerTable.from_parquet(tmp_path / "log.parquet")
    expected = AnswerTable.from_jsonl(written(tmp_path))
    np.testing.assert_array_equal(found.agreement, expected.agreement)
    np.testing.assert_array_equal(found.table.quality, expected.table.quality)
    assert np.isnan(found.signals["logprob"][1, 0])  # nested in an object, which this file does not have


def test_rows_without_ids_belong_to_the_query_of_their_text_and_labels(tmp_path):
    rows = [{"prompt": "x", "task": task, "model": "s", "score": 1, "logprob": value} for task, value in (("p", -1), ("q", -2))]
    rows += [{"prompt": "x", "task": "q", "model": "l", "score": 1, "logprob": -3}]
    answers = AnswerTable.from_jsonl(written(tmp_path, rows))
    np.testing.assert_array_equal(answers.signals["logprob"], [[-1, np.nan], [-2, -3]])
    assert answers.agreement is None


def test_repeated_answers_are_averaged_and_columns_may_have_other_names(tmp_path):
    rows = [
        {"text": "x", "who": "s", "score": 1, "logprob": -1, "said": "one", "score_cost_usd": 0.2},
        {"text": "x", "who": "s", "score": 0, "logprob": -3, "said": "two", "score_cost_usd": 0.4},
        {"text": "x", "who": "l", "score": 0, "logprob": None, "said": "One!", "score_cost_usd": None},
    ]
    answers = AnswerTable.from_jsonl(written(tmp_path, rows), columns={"model": "who"}, answer="said")
    np.testing.assert_array_equal(answers.signals["logprob"], [[-2, np.nan]])
    assert answers.agreement[0, 0, 1] == 1  # the first answer counts
    np.testing.assert_allclose(answers.score_cost, [[0.3, 0]])


def test_the_log_that_ships_is_read_as_the_ladder_is(tmp_path):
    from importlib import resources

    ladder = load_ladder()
    with resources.as_file(resources.files("agentroute") / "data" / "ladder.jsonl.gz") as path:
        answers = AnswerTable.from_jsonl(path)
    i, model = 700, ladder.table.models[1]
    query = ladder.table.queries[i].id
    assert answers.signals["logprob"][i, 1] == pytest.approx(ladder.answers[model][query].logprob)
    texts = [ladder.answers[name][query].text for name in ladder.table.models]
    assert answers.agreement[i, 0, 2] == same_answer(texts[0], texts[2])
    np.testing.assert_array_equal(answers.table.quality, ladder.table.quality)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("67 + 73 equals 140.", "140", True),
        ("140", "141", False),
        ("1,400 apples", "1400.0", True),
        ("-3", "3", False),
        ("The answer is 3", "three", False),
        ("A\n", " a ", True),
        ("Straße", "STRASSE", True),
        ("x = 1\n" + "y" * 300, "x = 2\n" + "y" * 300, False),
        ("x = 1\n" + "y" * 300, "x=1 " + "Y" * 300, True),  # long texts are no numbers
        ("12 " + "a" * 300, "12", False),
    ],
)
def test_same_answer(one, other, same):
    assert same_answer(one, other) is same
    assert same_answer(other, one) is same


DIFFERENT = [
    # Numbers that no one reads alike are no numbers to compare by.
    ("1,5", "2,5"),
    ("1,5", "15"),
    ("1/2", "12"),
    ("(1, 2)", "12"),
    ("1, 23", "12, 3"),
    ("It costs 3,50 EUR", "It costs 7,50 EUR"),
    ("0,500", "500"),
    ("2.5e10", "7.1e10"),
    ("3 \u00d7 10^8", "5 \u00d7 10^8"),
    ("5 million", "5"),
    # Parts of something.
    ("H2O", "CO2"),
    ("x^2", "y^2"),
    ("B2", "C2"),
    ("2x", "2"),
    ("SHA-256", "MD-256"),
    ("1\u20132", "5\u20132"),
    ("1 -2", "5 -2"),
    ("10:30", "11:30"),
    ("2024-01-05", "2023-01-05"),
    ("1.2.3", "4.2.3"),
    ("(1, 2)", "(3, 2)"),
    # Groups, signs and operators.
    ("12 000", "47 000"),
    ("12\u202f000", "47\u202f000"),
    ("\u22125", "5"),
    ("C++", "C#"),
    ("C", "C++"),
    ("a + b", "a - b + c"),
    ("x * 2", "x ** 2"),
    ("x * y", "x ** y"),
    ("x + 5", "5"),
    ("x < 5", "x > 5"),
    ("5 + x", "5"),
    # The same number of something else, or denied.
    ("Yes, 100%", "No, 100%"),
    ("It is not 5", "It is 5"),
    ("5 January", "5 May"),
    ("January 5", "May 5"),
    ("10 km", "10 m"),
    ("It is $5", "It is \u20ac5"),
    ("50% of it", "50 km"),
    # Several results.
    ("x = 2 and y = 3", "x = 5 and y = 3"),
    ("x = 1,5 and y = 3", "x = 2,5 and y = 3"),
    ("Ann is 5, Bob is 3", "Ann is 7, Bob is 3"),
    ("Ann: 5, Bob: 3", "Ann: 7, Bob: 3"),
    ("There are 3 male and 2 female friends", "2"),
    ("```python\ndef f(s):\n    return s * 2\n```", "2"),
    ("```python\ndef f(s):\n    return s * 2\n```", "```python\ndef f(s):\n    return s[::-1] * 2\n```"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_short_answers_that_differ_are_not_the_same(one, other):
    assert not same_answer(one, other)
    assert not same_answer(other, one)
    assert same_answer(one, one)
    assert same_answer(other, f" {other}\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The product of 32 and 27 is 864.", "32 * 27 equals 864."),
        ("Ann has 6 boxes with 6 pencils each, which is 6 * 6 = 36 pencils.", "6 * 6 = 36"),
        ("12 + 5 = 17. Then 17 * 2 = 34.", "34"),
        ("3 * 4 * 5 = 12 * 5 = 60", "60"),
        ("16 / 8 = 2", "2"),
        ("**5**", "5"),
        ("\\(5\\)", "5"),
        ("$5$", "5"),
        ("Answer: 5", "5."),
        ("x=5", "5"),
        ("50%", "50"),
        ("28 oranges", "28"),
        ("5 km", "5km"),
        ("12 000", "12,000"),
        ("1,00,000", "100000"),
        ("\u22125", "-5"),
        ("**Paris**.", "paris"),
        ("It costs 3,50 EUR.", "it costs 3,50 EUR"),
        ("x*y", "x * y"),
        ("well-known", "Well known"),
        ("1,000 people came in 1999", "1000 people came in 1999."),
    ],
)
def test_short_answers_that_come_to_the_same(one, other):
    assert same_answer(one, other)
    assert same_answer(other, one)


def test_on_the_log_that_ships_no_right_number_is_taken_for_a_wrong_one():
    """Two models that both gave the right number say the same; one that is right and one that is wrong do not."""
    ladder = load_ladder()
    first, second = ladder.table.models[1:]
    for i, query in enumerate(ladder.table.queries):
        if query.task != "arithmetic":
            continue
        same = same_answer(ladder.answers[first][query.id].text, ladder.answers[second][query.id].text)
        right = ladder.table.quality[i, 1:]
        assert same == (right == 1).all() or (right == 0).all()


def test_agreement_by_a_function_of_the_callers():
    texts = np.array([["a", "b", None]], dtype=object)
    np.testing.assert_array_equal(
        agreements(texts, lambda one, other: 0.25), [[[1, 0.25, np.nan], [0.25, 1, np.nan], [np.nan] * 3]]
    )
    with pytest.raises(ConfigError, match="from 0 to 1"):
        agreements(texts, lambda one, other: 2)


def test_blank_answers_do_not_agree():
    """Two tool calls leave two empty texts behind, and may be anything."""
    found = agreements(np.array([["", " \n", "4", "It is 4."]], dtype=object))[0]
    assert found[2, 3] == 1.0
    assert np.isnan(found[:2]).all()
    assert np.isnan(agreements(np.array([["", ""]], dtype=object), lambda one, other: one == other)).all()


def test_what_scoring_cost_in_some_lines_is_unknown_in_the_others(tmp_path):
    rows = [{**row, "score_cost_usd": 0.2} if row["query_id"] == "a" and row["model"] == "s" else row for row in ROWS]
    answers = AnswerTable.from_jsonl(written(tmp_path, rows))
    assert answers.models == ("s", "l")
    np.testing.assert_array_equal(answers.score_cost, [[0.2, 0.0], [np.nan, 0.0], [np.nan, 0.0]])


def test_take_split_and_select_keep_everything_together(tmp_path):
    answers = AnswerTable.from_jsonl(written(tmp_path), signals=["logprob"])
    some = answers.take([1, 0])
    assert [query.id for query in some.table.queries] == ["b", "a"]
    np.testing.assert_array_equal(some.signals["logprob"], answers.signals["logprob"][[1, 0]])
    turned = answers.select(["l", "s"])
    np.testing.assert_array_equal(turned.signals["logprob"], answers.signals["logprob"][:, ::-1])
    np.testing.assert_array_equal(turned.agreement, answers.agreement[:, ::-1, ::-1])
    np.testing.assert_array_equal(turned.table.quality, answers.table.quality[:, ::-1])
    fit, held = answers.split(0.4, seed=3)
    for part, table in zip((fit, held), answers.table.split(0.4, seed=3), strict=True):
        assert [query.id for query in part.table.queries] == [query.id for query in table.queries]
        rows = ["abc".index(query.id) for query in table.queries]
        np.testing.assert_array_equal(part.signals["logprob"], answers.signals["logprob"][rows])
        np.testing.assert_array_equal(part.table.at, table.at)
    with pytest.raises(UnknownModelError):
        answers.select(["m"])


def test_arrays_that_cannot_be_right_are_refused():
    table = OutcomeTable(queries=(Query(text="x"),), models=("s", "l"), quality=np.ones((1, 2)))
    for wrong, message in [
        ({"signals": {"p": np.ones((2, 2))}}, r"signal 'p' has the shape \(2, 2\), not \(1, 2\)"),
        ({"signals": {"p": [[np.inf, 0]]}}, "infinite"),
        ({"agreement": np.ones((1, 2))}, r"not \(1, 2, 2\)"),
        ({"agreement": np.full((1, 2, 2), 2.0)}, r"outside \[0, 1\]"),
        ({"agreement": np.array([[[1.0, 0.0], [1.0, 1.0]]])}, "not symmetric"),
        ({"score_cost": np.ones(2)}, "score_cost has the shape"),
        ({"score_cost": [[-1.0, 0.0]]}, "below 0"),
    ]:
        with pytest.raises(DataError, match=message):
            AnswerTable(table=table, **wrong)


def test_files_that_cannot_be_right_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"row 0: logprob 'high' is not a number"):
        AnswerTable.from_jsonl(written(tmp_path, [ROWS[0] | {"logprob": "high"}]))
    with pytest.raises(StorageError, match="does not exist"):
        AnswerTable.from_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no column"):
        AnswerTable.from_jsonl(written(tmp_path, [{"prompt": "x"}]))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("+", "-", False),
        (" + ", "+", True),
        ("1/2", "3/2", False),
        ("1/2", "1 / 2.", True),
        ("10:30", "11:30", False),
        ("2024-01-05", "2023-12-05", False),
        ("67 + 73 equals 140.", "140", True),
        ("", "", True),
    ],
)
def test_what_is_no_number_is_not_compared_by_its_last_one(one, other, alike):
    assert same_answer(one, other) is alike
