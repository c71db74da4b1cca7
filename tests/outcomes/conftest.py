"""Helpers that the tests of outcomes share."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from agentroute.types import Outcome, Query


@pytest.fixture
def make() -> Callable[..., Outcome]:
    """Makes an outcome of a text and a model."""

    def make(text: str = "2 + 2?", model: str = "small", **fields: Any) -> Outcome:
        query = fields.pop("query", None) or Query(text=text)
        return Outcome(query=query, model=model, **fields)

    return make


@pytest.fixture
def fork() -> Callable[[Callable[[], object]], int]:
    """Runs a function in a forked child, which exits with 1 when it raises; gives the child's id."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")

    def fork(function: Callable[[], object]) -> int:
        child = os.fork()
        if child:
            return child
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    return fork
