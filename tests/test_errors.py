"""Errors: what they say, what they carry, and that both survive a copy and another process."""

import copy
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from agentroute import errors
from agentroute.errors import (
    AgentRouteError,
    AgentRouteWarning,
    AllModelsFailedError,
    ArtefactError,
    BudgetError,
    ConfigError,
    DataError,
    DeadlineExceededError,
    DuplicateModelError,
    EmbedderMismatchError,
    MissingExtraError,
    MissingSignalError,
    NoEligibleModelError,
    NotFittedError,
    PriceUnknownError,
    StorageError,
    UnknownModelError,
)

MADE = [
    (AgentRouteError("odd"), "odd", {}),
    (ConfigError("wrong"), "wrong", {}),
    (DataError("seven"), "seven", {}),
    (NotFittedError("fit first"), "fit first", {}),
    (StorageError("no disk"), "no disk", {}),
    (
        UnknownModelError("gtp", (name for name in ("gpt", "claude"))),
        "unknown model 'gtp': the pool knows 'gpt', 'claude'",
        {"model": "gtp", "known": ("gpt", "claude")},
    ),
    (UnknownModelError("x", [], where="the log"), "unknown model 'x': the log knows no model", {"model": "x", "known": ()}),
    (BudgetError("too dear", budget=0.5, cheapest=1.0), "too dear", {"budget": 0.5, "cheapest": 1.0}),
    (DuplicateModelError("a"), "two models are called 'a': give each card of a pool its own id", {"model": "a"}),
    (
        EmbedderMismatchError("one", "two"),
        "this was made with the embedder one, not with two: pass that embedder, or fit again",
        {"expected": "one", "found": "two"},
    ),
    (
        NoEligibleModelError({"a": "too small", "b": "not in the allow-list"}),
        "no model may answer this query (a: too small; b: not in the allow-list)",
        {"reasons": {"a": "too small", "b": "not in the allow-list"}},
    ),
    (NoEligibleModelError({}), "no model may answer this query (the pool is empty)", {"reasons": {}}),
    (
        PriceUnknownError(["a", "b"]),
        (
            "no price and no logged cost for 'a', 'b': give the models prices, on their cards or when a log with token counts "
            "is read (OutcomeTable.from_log(log, prices=...)), or log the billed costs"
        ),
        {"models": ("a", "b")},
    ),
    (
        MissingSignalError("logprobs", "LogprobScorer", "ask for them"),
        "LogprobScorer needs logprobs, which the answer does not carry: ask for them",
        {"signal": "logprobs", "scorer": "LogprobScorer"},
    ),
    (DeadlineExceededError("a"), "a did not answer in time", {"model": "a"}),
    (ArtefactError("router", "is foreign"), "router: is foreign", {"path": Path("router")}),
    (
        MissingExtraError("GenaiPrices", "prices"),
        "GenaiPrices needs an optional dependency: pip install 'agentroute-sdk[prices]'",
        {"extra": "prices", "msg": "GenaiPrices needs an optional dependency: pip install 'agentroute-sdk[prices]'"},
    ),
]
NAMES = [f"{type(error).__name__}-{i}" for i, (error, _, _) in enumerate(MADE)]


def again(error):
    make, arguments, state = error.__reduce__()
    made = make(*arguments)
    made.__setstate__(state)
    return made


def check(found, error, message, attributes):
    assert type(found) is type(error)
    assert str(found) == message
    assert found.args == error.args
    for name, value in attributes.items():
        assert getattr(found, name) == value


@pytest.mark.parametrize(("error", "message", "attributes"), MADE, ids=NAMES)
@pytest.mark.parametrize("copied", [lambda error: error, copy.copy, copy.deepcopy, again])
def test_says_and_carries_the_same_after_a_copy(error, message, attributes, copied):
    check(copied(error), error, message, attributes)


def test_notes_are_copied():
    error = DuplicateModelError("a")
    error.add_note("line 3")
    assert copy.copy(error).__notes__ == ["line 3"]


def failed():
    return AllModelsFailedError("no model answered", [OSError("down"), ValueError("odd")], attempts=["first", "second"])


@pytest.mark.parametrize("copied", [lambda error: error, copy.copy, copy.deepcopy, again])
def test_all_models_failed_keeps_its_errors_and_attempts(copied):
    found = copied(failed())
    assert type(found) is AllModelsFailedError
    assert found.message == "no model answered"
    assert [repr(error) for error in found.exceptions] == ["OSError('down')", "ValueError('odd')"]
    assert found.attempts == ("first", "second")
    assert str(found) == "no model answered (2 sub-exceptions)"


def test_part_of_all_models_failed_keeps_the_attempts():
    matched, rest = failed().split(OSError)
    assert [type(part) for part in (matched, rest)] == [AllModelsFailedError] * 2
    assert (len(matched.exceptions), len(rest.exceptions)) == (1, 1)
    assert matched.attempts == rest.attempts == ("first", "second")
    with pytest.raises(ExceptionGroup):
        raise failed()


def test_errors_go_to_another_process_and_back():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(copy.copy, [*(error for error, _, _ in MADE), failed()]))
    for one, (error, message, attributes) in zip(found[:-1], MADE, strict=True):
        check(one, error, message, attributes)
    assert found[-1].attempts == ("first", "second")


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (ConfigError, (ValueError,)),
        (DataError, (ValueError,)),
        (NotFittedError, (ValueError, AttributeError)),
        (PriceUnknownError, (LookupError,)),
        (ArtefactError, (ValueError,)),
        (MissingExtraError, (ImportError,)),
        (MissingSignalError, (LookupError,)),
        (DeadlineExceededError, (TimeoutError,)),
        (AllModelsFailedError, (ExceptionGroup,)),
        (UnknownModelError, (ConfigError,)),
        (DuplicateModelError, (ConfigError,)),
        (EmbedderMismatchError, (ConfigError,)),
    ],
)
def test_may_be_caught_as_the_builtin_that_it_is(kind, bases):
    assert issubclass(kind, (AgentRouteError, *bases))
    assert all(issubclass(kind, base) for base in bases)


def test_the_tree_names_every_error_and_warning():
    drawn = {word for word in errors.__doc__.split() if word.endswith(("Error", "Warning"))}
    assert set(errors.__all__) <= drawn
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), AgentRouteWarning if name.endswith("Warning") else AgentRouteError)
