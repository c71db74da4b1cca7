"""Reading files: what is accepted, and what is said of what is not."""

import csv
import gzip
import json
import math
import sys

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, MissingExtraError, StorageError
from agentroute.outcomes import OutcomeTable
from agentroute.types import Price

NAN = math.nan
ROWS = [
    {"query_id": "q1", "prompt": "2 + 2?", "model": "a", "score": 1, "cost_usd": 0.5, "latency_s": 1.5, "task": "maths"},
    {"query_id": "q1", "prompt": "2 + 2?", "model": "b", "score": 0.5, "cost_usd": None, "latency_s": None, "task": "maths"},
    {"query_id": "q2", "prompt": "Hello, you", "model": "a", "score": None, "cost_usd": 0.0, "latency_s": 2.0, "task": None},
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_gz(path, rows):
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_csv(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(
            [{name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()} for row in rows]
        )


def write_parquet(path, rows):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


KINDS = {
    "jsonl": (write_jsonl, "log.jsonl", OutcomeTable.from_jsonl),
    "gz": (write_gz, "log.jsonl.gz", OutcomeTable.from_jsonl),
    "csv": (write_csv, "log.csv", OutcomeTable.from_csv),
    "parquet": (write_parquet, "log.parquet", OutcomeTable.from_parquet),
}


@pytest.fixture(params=KINDS)
def read(request, tmp_path):
    """Writes rows to a file of each kind, and reads it."""
    write, name, reader = KINDS[request.param]

    def read(rows, **options):
        write(tmp_path / name, rows)
        return reader(tmp_path / name, **options)

    read.kind = request.param
    return read


def test_reads_a_table(read):
    found = read(ROWS)
    assert [(query.id, query.text, query.task) for query in found.queries] == [
        ("q1", "2 + 2?", "maths"),
        ("q2", "Hello, you", None),
    ]
    assert found.models == ("a", "b")
    np.testing.assert_array_equal(found.quality, [[1, 0.5], [NAN, NAN]])
    np.testing.assert_array_equal(found.cost, [[0.5, NAN], [0.0, NAN]])  # null is not 0, and 0 is not null
    np.testing.assert_array_equal(found.latency, [[1.5, NAN], [2.0, NAN]])
    assert np.isnan(found.at).all()
    assert found.embeddings is None


def test_other_names_and_no_ids(read):
    found = read(
        [
            {"text": "x", "model": "a", "quality": 0.25, "cost": 1.0, "latency": 2.0, "role": "planner", "ignored": "z"},
            {"text": "x", "model": "b", "quality": 0.75, "cost": 1.0, "latency": 2.0, "role": "planner", "ignored": "z"},
            {"text": "x", "model": "b", "quality": 0.5, "cost": 1.0, "latency": 2.0, "role": "coder", "ignored": "z"},
        ]
    )
    assert [(query.id, query.text, query.role) for query in found.queries] == [(None, "x", "planner"), (None, "x", "coder")]
    np.testing.assert_array_equal(found.quality, [[0.25, 0.75], [NAN, 0.5]])


def test_named_columns(read):
    rows = [{"question": "x", "llm": "a", "accuracy": 0.5, "tier": "gold", "id": 7}]
    columns = {"prompt": "question", "model": "llm", "score": "accuracy", "tag:tier": "tier"}
    found = read(rows, columns=columns)
    assert found.queries[0].text == "x"
    assert found.queries[0].id == "7"
    assert found.queries[0].tags == {"tier": "gold"}
    assert found.models == ("a",)
    assert found.quality.tolist() == [[0.5]]
    with pytest.raises(DataError, match=r"no column 'nope'.*'question'"):
        read(rows, columns={**columns, "cost": "nope"})
    with pytest.raises(ConfigError, match="'price' is not one of our names"):
        read(rows, columns={**columns, "price": "tier"})


def test_tags(read):
    found = read(
        [
            {"prompt": "x", "model": "a", "score": 1, "tags": {"lang": "en"}, "tag:tier": "gold"},
            {"prompt": "y", "model": "a", "score": 1, "tags": {"lang": "de"}, "tag:tier": None},
        ]
    )
    assert [query.labels for query in found.queries] == [("tag:lang=en", "tag:tier=gold"), ("tag:lang=de",)]


def test_repeated_rows_are_averaged(read):
    found = read(
        [
            {"query_id": "q", "prompt": "x", "model": "a", "score": score, "cost": cost}
            for score, cost in [(1.0, 1.0), (0.0, None), (None, 2.0)]
        ]
    )
    assert (found.quality.tolist(), found.cost.tolist()) == ([[0.5]], [[1.5]])
    assert found.samples.tolist() == [[2.0]]  # the row without a score is no sample of one


def test_a_score_may_be_the_mean_of_several_samples(read):
    row = {"query_id": "q", "prompt": "x", "model": "a"}
    found = read(
        [
            {**row, "score": 1.0, "cost": 4.0, "samples": 3},
            {**row, "score": 0.0, "cost": None, "samples": None},
            {**row, "score": None, "cost": 1.0, "samples": 2},
            {**row, "model": "b", "score": 0.3, "cost": 1.0, "samples": 10},
            {**row, "model": "c", "score": 0.3, "cost": 1.0, "samples": None},
            {**row, "model": "d", "score": None, "cost": 1.0, "samples": 7},
        ]
    )
    np.testing.assert_array_equal(found.samples, [[4, 10, 1, 0]])
    np.testing.assert_array_equal(found.quality, [[0.75, 0.3, 0.3, NAN]])  # (3 · 1 + 1 · 0) / 4
    assert found.cost[0, 0] == (3 * 4.0 + 2 * 1.0) / 5


def test_without_a_count_each_row_is_one_sample(read):
    np.testing.assert_array_equal(read(ROWS).samples, [[1, 1], [0, 0]])


def test_the_column_of_counts_may_have_another_name(read):
    found = read([{"prompt": "x", "model": "a", "score": 1, "runs": 5}], columns={"samples": "runs"})
    assert found.samples.tolist() == [[5.0]]


@pytest.mark.parametrize(("count", "shown"), [(0, "0"), (2.5, "2.5")])
def test_a_count_that_is_none(read, count, shown):
    rows = [
        {"prompt": "x", "model": "a", "score": 1, "samples": 3.0},
        {"prompt": "y", "model": "a", "score": 1, "samples": count},
    ]
    with pytest.raises(DataError, match=rf"samples {shown} is no count: give a whole number of at least 1"):
        read(rows)
    rows[1]["samples"] = -1.0
    with pytest.raises(DataError, match="samples -1 is outside"):
        read(rows)


@pytest.mark.parametrize("at", [1_767_323_045, "2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05"])
def test_times(read, at):
    earlier = 1_000_000_000 if isinstance(at, int) else "2001-01-01"
    found = read(
        [
            {"prompt": "x", "model": "a", "score": 1, "at": at},
            {"prompt": "x", "model": "a", "score": 1, "at": earlier},
            {"prompt": "y", "model": "a", "score": 1, "at": None},
        ]
    )
    np.testing.assert_array_equal(found.at, [1_767_323_045.0, NAN])


@pytest.mark.parametrize("missing", ["prompt", "model", "score"])
def test_missing_column(read, missing):
    rows = [{name: value for name, value in row.items() if name != missing} for row in ROWS]
    with pytest.raises(DataError, match=r"has no column .*it has 'query_id'.*columns=\{"):
        read(rows)


def where(read, row):
    return {"csv": f"line {row + 2}", "parquet": f"row {row}"}.get(read.kind, f"line {row + 1}")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("score", 7.0, r"quality 7 is outside \[0, 1\]: rescale"),
        ("score", -1.0, "quality -1"),
        ("score", math.inf, "quality inf"),
        ("cost_usd", -0.5, "cost -0.5"),
        ("latency_s", -0.5, "latency -0.5"),
        ("model", "", "the model must be a name"),
        ("model", None, "the model must be a name"),
        ("prompt", "another", "query 'q1' has another prompt than before"),
    ],
)
def test_a_value_that_cannot_be_right_is_named_with_its_line(read, field, value, message):
    with pytest.raises(DataError, match=message) as caught:
        read([ROWS[0], {**ROWS[1], field: value}, ROWS[2]])
    assert f", {where(read, 1)}: " in str(caught.value)


def test_averaging_hides_no_wrong_value(read):
    with pytest.raises(DataError, match=r"quality 1\.5"):
        read([{"prompt": "x", "model": "a", "score": score} for score in (1.5, 0.0)])


PRICES = {"a": Price(input=2.0, output=8.0, cache_read=0.5), "b": Price(input=0.0, output=0.0)}
TOKENS = {"input_tokens": 1_000_000, "output_tokens": 500_000}


def test_tokens_become_costs_where_no_cost_is_given(read):
    rows = [
        {"model": "a", "cost_usd": None, **TOKENS, "cache_read_tokens": None},
        {"model": "a", "cost_usd": 0.25, **TOKENS, "cache_read_tokens": None},
        {"model": "a", "cost_usd": None, **TOKENS, "cache_read_tokens": 1_000_000},
        {"model": "a", "cost_usd": None, **TOKENS, "cache_read_tokens": None, "output_tokens": None},
        {"model": "b", "cost_usd": None, **TOKENS, "cache_read_tokens": None},
        {"model": "c", "cost_usd": None, **TOKENS, "cache_read_tokens": None},
    ]
    rows = [{"prompt": f"q{i}", "score": 1.0, **row} for i, row in enumerate(rows)]
    found = read(rows, prices=PRICES)
    column = [found.models.index(row["model"]) for row in rows]
    np.testing.assert_array_equal(found.cost[range(6), column], [6.0, 0.25, 4.5, NAN, 0.0, NAN])
    assert np.isnan(read(rows).cost).sum() == 18 - 1
    with pytest.raises(ConfigError, match="give a Price for 'a'"):
        read(rows, prices={"a": 2.0})


def test_prices_without_tokens_change_nothing(read):
    np.testing.assert_array_equal(read(ROWS, prices=PRICES).cost, [[0.5, NAN], [0.0, NAN]])


def test_tokens_that_cannot_be_right(read):
    rows = [{"prompt": "q", "model": "a", "score": 1.0, **TOKENS, "output_tokens": count} for count in (1, -1)]
    assert len(read(rows)) == 1  # not looked at when they are not needed
    with pytest.raises(DataError, match="output_tokens -1 is outside"):
        read(rows, prices=PRICES)


def test_tokens_under_another_name(read):
    rows = [{"prompt": "q", "model": "a", "score": 1.0, "tokens in": 1_000_000, "tokens out": 0}]
    columns = {"input_tokens": "tokens in", "output_tokens": "tokens out"}
    assert read(rows, columns=columns, prices=PRICES).cost.tolist() == [[2.0]]


def test_nan_scores_are_not_observed(read):
    found = read([{"prompt": "x", "model": "a", "score": NAN}, {"prompt": "x", "model": "b", "score": 1.0}])
    np.testing.assert_array_equal(found.quality, [[NAN, 1.0]])


@pytest.mark.parametrize("prompt", ["", "x" * 1_000_000, 'two\nlines, and "quotes"'])
def test_unusual_prompts(read, prompt):
    found = read([{"query_id": "1", "prompt": prompt, "model": "a", "score": 1}])
    assert [query.text for query in found.queries] == [prompt]


@pytest.mark.parametrize("kind", ["jsonl", "gz", "csv"])
def test_empty_file(tmp_path, kind):
    _, name, reader = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if kind == "gz" else b"")
    with pytest.raises(DataError, match="is empty"):
        reader(path)


def test_a_header_and_no_rows(tmp_path):
    (tmp_path / "log.csv").write_text("prompt,model,score\n")
    with pytest.raises(DataError, match="holds no rows"):
        OutcomeTable.from_csv(tmp_path / "log.csv")
    write_parquet(tmp_path / "log.parquet", ROWS)
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(tmp_path / "log.parquet").slice(0, 0), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        OutcomeTable.from_parquet(tmp_path / "log.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_file_and_folder(tmp_path, kind):
    _, name, reader = KINDS[kind]
    with pytest.raises(StorageError, match="does not exist"):
        reader(tmp_path / name)
    with pytest.raises(StorageError, match="is a folder"):
        reader(tmp_path)


class TestJsonl:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "log.jsonl"

    @pytest.mark.parametrize("line", ['{"prompt": "x", "mod', "[" * 100_000, "not json"])
    def test_unreadable_line(self, path, line):
        path.write_text(json.dumps(ROWS[0]) + "\n\n" + line + "\n")
        with pytest.raises(DataError, match="line 3: not JSON"):
            OutcomeTable.from_jsonl(path)

    def test_line_that_is_no_object(self, path):
        path.write_text("[1, 2]\n")
        with pytest.raises(DataError, match="line 1: a line must hold one JSON object"):
            OutcomeTable.from_jsonl(path)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("score", "good", "quality 'good' is not a number"),
            ("score", [1], r"quality \[1\] is not a number"),
            ("prompt", None, "the prompt must be text, not None"),
            ("prompt", 5, "the prompt must be text, not 5"),
            ("model", 5, "the model must be a name, not 5"),
            ("score", 10**400, "quality is too large a number"),
            ("latency_s", -(10**400), "latency is too large a number"),
            ("at", "soon", "at='soon' is no time"),
            ("at", 1e300, r"at='1e\+300' is no time"),
            ("at", 10**400, "at='1000"),
            ("at", math.inf, "at='inf' is no time"),
            ("at", 1_767_323_045_000, "at='1767323045000' is no time: give ISO 8601 or seconds"),
            ("tags", "en", "tags must be an object"),
            ("tags", [1], "tags must be an object"),
        ],
    )
    def test_wrong_kinds(self, path, field, value, message):
        write_jsonl(path, [ROWS[0], {**ROWS[0], "query_id": "another", field: value}])
        with pytest.raises(DataError, match=f"line 2: {message}"):
            OutcomeTable.from_jsonl(path)

    def test_blank_lines_do_not_shift_line_numbers(self, path):
        path.write_text("\n\n" + json.dumps({**ROWS[0], "score": 7}) + "\n")
        with pytest.raises(DataError, match="line 3: quality 7"):
            OutcomeTable.from_jsonl(path)

    def test_numbers_as_text_and_truth_values(self, path):
        write_jsonl(path, [{**ROWS[0], "score": "0.5", "cost_usd": ""}, {**ROWS[1], "score": True}])
        found = OutcomeTable.from_jsonl(path)
        assert found.quality.tolist() == [[0.5, 1.0]]
        assert np.isnan(found.cost).all()

    def test_lone_surrogates(self, path):
        path.write_text('{"prompt": "a\\ud800b", "model": "m", "score": 1, "task": "\\ud800"}\n')
        found = OutcomeTable.from_jsonl(path)
        assert found.queries[0].text == "a\ufffdb"
        assert len(list(found.outcomes())) == 1

    def test_not_utf8(self, path):
        path.write_bytes('{"prompt": "é", "model": "m", "score": 1}'.encode("latin-1"))
        with pytest.raises(DataError, match="not UTF-8"):
            OutcomeTable.from_jsonl(path)

    def test_byte_order_mark(self, path):
        path.write_text(json.dumps(ROWS[0]), encoding="utf-8-sig")
        assert len(OutcomeTable.from_jsonl(path)) == 1

    @pytest.mark.parametrize("cut", [5, 60])
    def test_damaged_gzip(self, tmp_path, cut):
        path = tmp_path / "log.jsonl.gz"
        write_gz(path, ROWS)
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError, match="damaged gzip"):
            OutcomeTable.from_jsonl(path)
        path.write_text("plain")
        with pytest.raises(DataError, match="damaged gzip"):
            OutcomeTable.from_jsonl(path)


class TestCsv:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "log.csv"

    def test_unquoted_comma(self, path):
        path.write_text("prompt,model,score\nhi,a,1\nhello, you,a,1\n")
        with pytest.raises(DataError, match="line 3: more fields than the header"):
            OutcomeTable.from_csv(path)

    def test_unfinished_quote(self, path):
        path.write_text('prompt,model,score\nhi,a,1\n"hello,a,1\n')
        with pytest.raises(DataError, match="not CSV"):
            OutcomeTable.from_csv(path)

    def test_short_row(self, path):
        path.write_text("prompt,model,score\nhi,a\n")
        assert np.isnan(OutcomeTable.from_csv(path).quality).all()

    def test_the_field_limit_is_put_back(self, path):
        before = csv.field_size_limit()
        write_csv(path, ROWS)
        OutcomeTable.from_csv(path)
        path.write_text("nothing")
        with pytest.raises(DataError):
            OutcomeTable.from_csv(path)
        assert csv.field_size_limit() == before


class TestParquet:
    def test_not_parquet(self, tmp_path):
        pytest.importorskip("pyarrow")
        path = tmp_path / "log.parquet"
        path.write_text("no")
        with pytest.raises(DataError, match="not Parquet"):
            OutcomeTable.from_parquet(path)
        path.write_bytes(b"")
        with pytest.raises(DataError, match="not Parquet"):
            OutcomeTable.from_parquet(path)

    def test_typed_columns(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        columns = {
            "query_id": pa.array([1, None, 1], pa.int64()),
            "prompt": pa.array(["x", "y", "x"]).dictionary_encode(),
            "model": pa.array(["a", "a", "b"], pa.large_string()),
            "score": pa.array([True, False, None], pa.bool_()),
            "cost_usd": pa.array([1, None, 2], pa.int32()),
            "latency_s": pa.array([0.5, None, NAN], pa.float32()),
            "at": pa.array([1_767_323_045_000_000, None, None], pa.timestamp("us")),
            "tags": pa.array([[("lang", "en")], None, None], pa.map_(pa.string(), pa.string())),
        }
        pq.write_table(pa.table(columns), tmp_path / "log.parquet")
        found = OutcomeTable.from_parquet(tmp_path / "log.parquet")
        assert [query.id for query in found.queries] == ["1", None]
        assert found.queries[0].tags == {"lang": "en"}
        np.testing.assert_array_equal(found.quality, [[1, NAN], [0, NAN]])
        np.testing.assert_array_equal(found.cost, [[1, 2], [NAN, NAN]])
        np.testing.assert_array_equal(found.latency, [[0.5, NAN], [NAN, NAN]])
        np.testing.assert_array_equal(found.at, [1_767_323_045, NAN])

    def test_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtraError, match=r"\[parquet\]"):
            OutcomeTable.from_parquet(tmp_path / "log.parquet")
