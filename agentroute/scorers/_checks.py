"""Checks that need no model: what a good answer cannot fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentroute.errors import ConfigError, MissingExtraError, MissingSignalError
from agentroute.scorers._base import Instant
from agentroute.scorers._code import Stopper, code_of, passes
from agentroute.scorers._texts import blocks
from agentroute.scorers._threads import in_thread
from agentroute.types import Query, Reply, Score, ToolCall

__all__ = ["Finished", "JsonSchemaCheck", "NotEmpty", "RegexCheck", "ToolCallCheck", "UnitTests"]

# What providers call an answer that is cut: OpenAI, Anthropic, Google, Mistral, Cohere, local servers.
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "content_filter", "safety", "error"})
_MOST_SECONDS = 3600.0


class NotEmpty(Instant):
    """1 when there is a text, a tool call or a parsed object, else 0."""

    def __init__(self, *, name: str = "not_empty") -> None:
        super().__init__(name)

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """Whether anything was said."""
        there = bool(reply.text.strip()) or bool(reply.tool_calls) or reply.parsed is not None
        return self._verdict(None if there else "the answer is empty", "there is an answer")


class Finished(Instant):
    """1 when the model ended by itself, 0 when it was cut (by a limit on tokens or a filter).

    Args:
        cut: Finish reasons that mean so, whatever their case; `None` = those that providers use.
        name: What the signal is called.

    Raises:
        MissingSignalError: By `score`, when the provider gave no reason: such an answer may be a stream that broke off.
    """

    needs = frozenset({"finish"})

    def __init__(self, *, cut: Iterable[str] | None = None, name: str = "finished") -> None:
        super().__init__(name)
        self.cut = _CUT if cut is None else frozenset(one.casefold() for one in cut)

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """Whether it was cut."""
        if not reply.finish:
            raise MissingSignalError("finish", self.name, "the provider gives no finish reason: leave this check out for it")
        cut = reply.finish.casefold() in self.cut
        return self._verdict(f"the answer was cut ({reply.finish})" if cut else None, f"the answer ended ({reply.finish})")


class RegexCheck(Instant):
    r"""1 when the text matches a regular expression, else 0.

    Python's expressions backtrack: one with nested repeats, such as `(a+)+$`, can take exponential time on thirty characters,
    which no limit on the length prevents. Write expressions without nested repeats (or with atomic groups); `limit` keeps the
    time of all others, which grows with a power of the length, within bounds.

    Args:
        pattern: The expression, a string or compiled.
        full: Whether all of the text must match, outer spaces aside, or any part of it.
        limit: Most characters that are looked at; a longer answer does not match.
        name: What the signal is called.

    Raises:
        ConfigError: The expression is broken.

    >>> RegexCheck(r"[A-Z]\w+", full=True).score(Query(text="Capital of Peru?"), Reply(text="Lima")).value
    1.0
    """

    def __init__(self, pattern: str | re.Pattern[str], *, full: bool = False, limit: int = 10_000, name: str = "regex") -> None:
        super().__init__(name)
        try:
            self.pattern = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigError(f"pattern={pattern!r} is no regular expression: {error}") from error
        self.full = full
        self.limit = limit

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """Whether it matches."""
        if len(reply.text) > self.limit:
            return self._verdict(f"the answer is longer than {self.limit} characters", "")
        found = self.pattern.fullmatch(reply.text.strip()) if self.full else self.pattern.search(reply.text)
        problem = None if found else f"the answer does not match {self.pattern.pattern}"
        return self._verdict(problem, f"the answer matches {self.pattern.pattern}")


class JsonSchemaCheck(Instant):
    """1 when the answer is JSON that follows a schema, else 0 (extra `jsonschema`).

    Looked at is the object that the framework parsed, if there is one; else the text, all of it or its only fenced block. An
    answer that the framework could not parse fails. References to other documents are not fetched.

    Args:
        schema: JSON Schema; the draft that `$schema` names, else 2020-12.
        limit: Most characters that are parsed; a longer answer fails.
        name: What the signal is called.

    Raises:
        MissingExtraError: `jsonschema` is not installed.
        ConfigError: The schema is not valid, or refers to a document that it does not hold.
    """

    def __init__(self, schema: Mapping[str, Any] | bool, *, limit: int = 1_000_000, name: str = "json_schema") -> None:  # noqa: FBT001  # true and false are schemas
        super().__init__(name)
        self.schema = schema
        self.limit = limit
        self._validator = _validator(schema)

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """Whether it follows the schema."""
        if reply.problem is not None:
            return self._verdict(f"the answer could not be parsed: {reply.problem}", "")
        if reply.parsed is not None:
            found = _plain_json(reply.parsed)
        elif len(reply.text) > self.limit:
            return self._verdict(f"the answer is longer than {self.limit} characters", "")
        else:
            try:
                found = _json_of(reply.text)
            except (ValueError, RecursionError) as error:
                return self._verdict(f"the answer is not JSON: {error}", "")
        return self._verdict(_complaint(self._validator, found), "the answer follows the schema")


class ToolCallCheck(Instant):
    """1 when all tool calls are well formed, else 0: known tools, arguments that parse and, where given, follow a schema.

    Args:
        tools: The tools' names; or a mapping of name to the JSON schema of its arguments (`None` = any), which needs the extra
            `jsonschema`; `None` = any name.
        required: Whether an answer without a call fails.
        name: What the signal is called.

    Raises:
        MissingExtraError: A schema is given, and `jsonschema` is not installed.
        ConfigError: A schema is not valid.
    """

    def __init__(
        self,
        tools: Iterable[str] | Mapping[str, Mapping[str, Any] | None] | None = None,
        *,
        required: bool = False,
        name: str = "tool_calls",
    ) -> None:
        super().__init__(name)
        if isinstance(tools, str):
            raise ConfigError(f"tools={tools!r} is one name: give a list of names")
        self.required = required
        given = tools if isinstance(tools, Mapping) else dict.fromkeys(tools or ())
        self._known = None if tools is None else frozenset(given)
        self._validators = {tool: _validator(schema) for tool, schema in given.items() if schema is not None}

    def score(self, query: Query, reply: Reply, /) -> Score:  # noqa: ARG002  # the scorer contract
        """The first problem, if there is one."""
        if self.required and not reply.tool_calls:
            return self._verdict("no tool is called", "")
        problems = (self._problem(call) for call in reply.tool_calls)
        return self._verdict(next(filter(None, problems), None), f"{len(reply.tool_calls)} tool calls are well formed")

    def _problem(self, call: ToolCall) -> str | None:
        if call.problem is not None:
            return f"the call of {call.name!r} is broken: {call.problem}"
        if call.arguments is None:
            return f"the arguments of {call.name!r} could not be parsed"
        if self._known is not None and call.name not in self._known:
            return f"there is no tool {call.name!r}"
        validator = self._validators.get(call.name)
        complaint = None if validator is None else _complaint(validator, _plain_json(call.arguments))
        return None if complaint is None else f"the arguments of {call.name!r}: {complaint}"


class UnitTests(Instant):
    """1 when the answer's Python code runs and passes tests, else 0.

    The first block that is marked as Python, else the first unmarked one, else the whole text runs in a subprocess of its own
    session: with an empty environment and a new folder, isolated from installed packages, without new files of any size, within
    limits on processor time, memory, open files and (not for root, where the system sets no such limit) processes. What it
    prints goes nowhere. When it ends, its time is up or an awaited score is cancelled, whatever it has started is killed: on
    Linux every process, also one that has made a session of its own, and also when this process dies before it; elsewhere, and on
    a Linux without `/proc`, the process group alone. These limits stop accidents and shortcuts, not an attacker, who can kill the
    process that watches: run code of models that you do not trust inside a container.

    Args:
        tests: Statements that run after the code and raise when it is wrong (`"assert double(2) == 4"`); or a function of the
            query that gives them, or `None` where there are none.
        limit: Most characters of an answer that is run; a longer one fails.
        timeout: Seconds for code and tests together.
        memory: Bytes of address space (512 MiB); systems other than Linux do not keep to it.
        name: What the signal is called.

    Raises:
        ConfigError: An option is out of range; by `score`, the system is not POSIX, which the limits need.
        MissingSignalError: By `score`, when there are no tests for the query.

    >>> scorer = UnitTests(["assert double(2) == 4"])
    >>> scorer.score(Query(text="Write double(x)."), Reply(text="def double(x): return 2 * x")).value
    1.0
    """

    def __init__(
        self,
        tests: Sequence[str] | Callable[[Query], Sequence[str] | None],
        *,
        limit: int = 100_000,
        timeout: float = 5.0,
        memory: int = 1 << 29,
        name: str = "unit_tests",
    ) -> None:
        super().__init__(name)
        if not 0.0 < timeout <= _MOST_SECONDS:
            raise ConfigError(f"timeout={timeout!r} must be in (0, {_MOST_SECONDS:g}] seconds")
        if not 1 << 26 <= memory < 1 << 62:
            raise ConfigError(f"memory={memory!r} must be bytes, 64 MiB or more: Python itself needs some")
        self._tests = tests if callable(tests) else _listed(tests)
        self.limit = limit
        self.timeout = timeout
        self.memory = memory

    def score(self, query: Query, reply: Reply, /) -> Score:
        """Runs the code and the tests."""
        return self._run(query, reply, Stopper())

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`, in a thread of its own; a caller that is cancelled has the code killed."""
        stopper = Stopper()
        try:
            return await in_thread(self._run, query, reply, stopper)
        finally:
            stopper.stop()

    def _run(self, query: Query, reply: Reply, stopper: Stopper) -> Score:
        tests = self._tests(query) if callable(self._tests) else self._tests
        if tests is None:
            raise MissingSignalError("unit tests", self.name, "the function of tests gave none for this query")
        if len(reply.text) > self.limit:
            return self._verdict(f"the answer is longer than {self.limit} characters", "")
        right = passes(code_of(reply.text), _listed(tests), self.timeout, memory=self.memory, stopper=stopper)
        return self._verdict(None if right else "the code does not pass its tests", "the code passes its tests")


def _listed(tests: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tests, str) or not all(isinstance(one, str) for one in tests) or not tests:
        raise ConfigError(f"tests={tests!r} must be a list of statements, at least one")
    return tuple(tests)


def _validator(schema: Mapping[str, Any] | bool) -> Any:  # noqa: FBT001  # as above
    try:
        import jsonschema  # type: ignore[import-untyped]
        from referencing import Registry
    except ImportError as error:
        raise MissingExtraError("checking a JSON schema", "jsonschema") from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(f"the JSON schema is not valid: {error.message}") from error
    # An empty registry: without one, the library would fetch what `$ref` names.
    return kind(schema, registry=Registry())


def _complaint(validator: Any, found: Any) -> str | None:
    """What is wrong with it, in one line; `None` = nothing."""
    from referencing.exceptions import Unresolvable

    try:
        error = next(validator.iter_errors(found), None)
    except Unresolvable as missing:
        raise ConfigError(f"the JSON schema refers to {missing.ref!r}, which it does not hold: put it under $defs") from missing
    except RecursionError:
        return "it is nested too deeply"
    except (ArithmeticError, ValueError) as problem:  # such as whether 1e400, which Python reads as infinite, is a multiple
        return f"it holds a number that cannot be checked: {problem}"
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


def _json_of(text: str) -> Any:
    """The JSON value of a text, or of its only fenced block."""
    fenced = [one.body for one in blocks(text) if one.closed and one.label.casefold() in {"", "json"}]
    found = fenced[0] if len(fenced) == 1 and not text.lstrip().startswith(("{", "[")) else text
    return json.loads(found, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is no JSON")


def _plain_json(found: Any) -> Any:
    """What a framework parsed, as JSON has it: a Pydantic model becomes a mapping, a tuple a list."""
    dump = getattr(found, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(found, Mapping):
        return {key: _plain_json(value) for key, value in found.items()}
    return [_plain_json(one) for one in found] if isinstance(found, list | tuple) else found
