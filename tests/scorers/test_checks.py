"""Deterministic checks: forms, schemas and calls."""

import http.server
import sys
import threading
from dataclasses import dataclass

import pytest

from agentroute.errors import ConfigError, MissingExtraError, MissingSignalError
from agentroute.scorers import Finished, JsonSchemaCheck, NotEmpty, RegexCheck, ToolCallCheck
from agentroute.scorers._code import code_of
from agentroute.scorers._texts import blocks
from agentroute.types import Query, Reply, ToolCall

QUERY = Query(text="?")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


async def value(scorer, reply):
    """The value, which must be the same awaited, free, and 0 or 1 under the scorer's name."""
    reply = Reply(text=reply) if isinstance(reply, str) else reply
    found = scorer.score(QUERY, reply)
    assert found == await scorer.ascore(QUERY, reply)
    assert found.cost == scorer.ceiling == 0.0
    assert dict(found.signals) == {scorer.name: found.value}
    assert found.reason
    return found.value


CALL = ToolCall(name="search", arguments={"q": "Lima"})


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(text="Lima"), 1.0),
        (Reply(text=" \n\t"), 0.0),
        (Reply(text=""), 0.0),
        (Reply(text="", tool_calls=(CALL,)), 1.0),
        (Reply(text="", parsed=0), 1.0),
    ],
)
async def test_not_empty(reply, expected):
    assert await value(NotEmpty(), reply) == expected


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", 1.0), ("end_turn", 1.0), ("tool_calls", 1.0), ("length", 0.0), ("MAX_TOKENS", 0.0), ("content_filter", 0.0)],
)
async def test_finished(finish, expected):
    assert await value(Finished(), Reply(text="x", finish=finish)) == expected


async def test_finished_with_own_reasons_and_without_any():
    assert await value(Finished(cut=["Stop"]), Reply(text="x", finish="STOP")) == 0.0
    for finish in (None, ""):
        with pytest.raises(MissingSignalError, match="finish reason"):
            Finished().score(QUERY, Reply(text="x", finish=finish))
    assert Finished().needs == {"finish"}


async def test_regex():
    assert await value(RegexCheck(r"\bLima\b"), "It is Lima.") == 1.0
    assert await value(RegexCheck(r"\bLima\b", full=True), "It is Lima.") == 0.0
    assert await value(RegexCheck(r"\w+", full=True), " Lima\n") == 1.0
    assert await value(RegexCheck("a", limit=3), "aaaa") == 0.0
    assert await value(RegexCheck("a", limit=4), "aaaa") == 1.0
    for broken in ("(", 3):
        with pytest.raises(ConfigError, match="no regular expression"):
            RegexCheck(broken)


async def test_the_length_is_checked_before_the_expression_runs():
    # Without the limit this quadratic search would take minutes.
    assert await value(RegexCheck(r"x*y"), "x" * 1_000_000) == 0.0


@dataclass
class Model:
    """What a framework's parser may make: an object with `model_dump`."""

    n: object

    def model_dump(self, mode):
        assert mode == "json"
        return {"n": self.n}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"n": 3}', 1.0),
        (' {"n": 3}\n', 1.0),
        ('Here:\n```json\n{"n": 3}\n```\nDone.', 1.0),
        ('```\n{"n": 3}\n```', 1.0),
        ('```json\n{"n": 3}\n```\n```json\n{"n": 4}\n```', 0.0),
        ('{"n": "3"}', 0.0),
        ('{"n": 3, "m": 4}', 0.0),
        ("{}", 0.0),
        ('{"n": 3', 0.0),
        ('{"n": NaN}', 0.0),
        ("[" * 100_000, 0.0),
        ("", 0.0),
        ("three", 0.0),
        (Reply(text="ignored", parsed={"n": 3}), 1.0),
        (Reply(text='{"n": 3}', parsed={"n": "3"}), 0.0),
        (Reply(text='{"n": 3}', problem="no JSON"), 0.0),
        (Reply(text="", parsed=Model(3)), 1.0),
        (Reply(text="", parsed=Model("3")), 0.0),
    ],
)
async def test_json_schema(reply, expected):
    assert await value(JsonSchemaCheck(SCHEMA), reply) == expected


@pytest.mark.parametrize("step", [0.01, 3])
async def test_a_number_beyond_all_bounds_fails(step):
    check = JsonSchemaCheck({"type": "number", "multipleOf": step})
    assert await value(check, "1e400") == 0.0
    assert await value(check, Reply(text="", parsed=float("nan"))) == 0.0
    assert await value(JsonSchemaCheck({"multipleOf": 0.01}), "1" + "0" * 400) in {0.0, 1.0}


ADVERSARIAL = [
    "```" + " " * 1_000_000,
    "```\n" + " " * 1_000_000,
    "```" + "a" * 1_000_000,
    "```" * 300_000,
    "```\n" * 250_000,
    "``` a ` " * 120_000 + "\n",
    "```json\n" + "\n  " * 300_000,
]


@pytest.mark.parametrize("answer", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
async def test_fences_are_found_in_linear_time(answer):
    # By an expression that backtracks, each of these takes from minutes to hours.
    assert await value(JsonSchemaCheck(SCHEMA, limit=2_000_000), answer) == 0.0
    assert len(code_of(answer)) <= len(answer)


def test_blocks_by_hand():
    text = "So: ```a `b` ```json\n{}\n```` and ```\n1``` ```py x`\n```Python 3\nx = 1"
    assert blocks(text) == [("json", "{}\n", True), ("", "1", True), ("Python 3", "x = 1", False)]
    assert code_of(text) == "x = 1"
    assert code_of("```sh\nls\n```\n```\r\ny = 2\r\n```") == "y = 2\n"


async def test_a_block_of_another_language_is_not_the_json():
    answer = '```python\nprint({"n": 3})\n```\n```JSON\r\n{"n": 3}\r\n```'
    assert await value(JsonSchemaCheck(SCHEMA), answer) == 1.0


def test_a_schema_failure_says_where():
    schema = {"type": "array", "items": SCHEMA}
    reason = JsonSchemaCheck(schema).score(QUERY, Reply(text='[{"n": 1}, {"n": "x"}]')).reason
    assert "$[1].n" in reason
    assert "'x' is not of type 'integer'" in reason


def test_broken_schemas_are_refused_and_nothing_is_fetched():
    with pytest.raises(ConfigError, match="not valid"):
        JsonSchemaCheck({"type": "intger"})
    fetched = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            fetched.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check = JsonSchemaCheck({"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"})
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1.*put it under \$defs"):
            check.score(QUERY, Reply(text="{}"))
        server.shutdown()
    assert fetched == []
    local = JsonSchemaCheck({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert local.score(QUERY, Reply(text="3")).value == 1.0


async def test_schemas_that_are_true_or_of_an_older_draft():
    assert await value(JsonSchemaCheck(True), "3") == 1.0
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "maximum": 3, "exclusiveMaximum": True}
    assert await value(JsonSchemaCheck(old), "3") == 0.0
    assert await value(JsonSchemaCheck(old), "2.5") == 1.0
    assert await value(JsonSchemaCheck({}, limit=3), "1234") == 0.0
    assert [await value(JsonSchemaCheck(True), f"[{text}]") for text in ("NaN", "Infinity", "1e9", "null")] == [0, 0, 1, 1]


def test_without_the_extra_it_says_which_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingExtraError) as caught:
        JsonSchemaCheck({})
    assert caught.value.extra == "jsonschema"
    ToolCallCheck(["search"])  # names alone need no extra


@pytest.mark.parametrize(
    ("calls", "tools", "expected"),
    [
        ([CALL], None, 1.0),
        ([CALL], ["search"], 1.0),
        ([CALL], ["find"], 0.0),
        ([CALL, ToolCall(name="find", arguments={})], ["search"], 0.0),
        ([ToolCall(name="search")], None, 0.0),
        ([ToolCall(name="search", arguments={}, problem="broken JSON")], None, 0.0),
        ([CALL], {"search": None}, 1.0),
        ([CALL], {"search": {"required": ["q"]}}, 1.0),
        ([CALL], {"search": {"required": ["query"]}}, 0.0),
        ([CALL], {"search": {"properties": {"q": {"type": "integer"}}}}, 0.0),
        ([CALL], {}, 0.0),
        ([], ["search"], 1.0),
    ],
)
async def test_tool_calls(calls, tools, expected):
    assert await value(ToolCallCheck(tools), Reply(text="", tool_calls=tuple(calls))) == expected


async def test_a_call_may_be_required_and_one_name_is_no_list():
    assert await value(ToolCallCheck(required=True), "I would rather talk") == 0.0
    assert await value(ToolCallCheck(required=True), Reply(text="", tool_calls=(CALL,))) == 1.0
    with pytest.raises(ConfigError, match="give a list"):
        ToolCallCheck("search")
