"""Plain functions, awaited."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["in_thread"]

Value = TypeVar("Value")


async def in_thread(function: Callable[..., Value], *given: Any, **named: Any) -> Value:
    """What a plain function gives, awaited while it runs in a daemon thread of its own.

    The event loop's own threads are few and are waited for at the end: a function that hangs for ever would take them from all
    others and would keep the process from ending. Here it takes no one else's thread, and the process may end meanwhile. Nothing
    bounds how many such threads there are at once but the callers.

    A caller that is cancelled, as by a deadline, waits no longer: the thread goes on until the function returns, and what it then
    gives or raises is dropped.

    Args:
        function: Called with the caller's context variables.
        given: Its arguments by place.
        named: Its arguments by name.

    Raises:
        Exception: What the function raises.
    """
    loop = asyncio.get_running_loop()
    # It holds what came of it and no exception: one that nobody waits for any more would be logged as never retrieved.
    ended: asyncio.Future[Callable[[], Value]] = loop.create_future()

    def run() -> None:
        try:
            outcome = _giving(function(*given, **named))
        except BaseException as error:  # whatever it is, it belongs to the caller
            outcome = _raising(error)
        # A loop that has been closed has no one who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, outcome)
            return
        _drop(outcome)

    def settle(outcome: Callable[[], Value]) -> None:
        if ended.done():
            _drop(outcome)
        else:
            ended.set_result(outcome)

    threading.Thread(target=copy_context().run, args=(run,), name="agentroute-scorer", daemon=True).start()
    return (await ended)()


def _giving(value: Value) -> Callable[[], Value]:
    return lambda: value


def _raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def _drop(outcome: Callable[[], Any]) -> None:
    """Lets go of what nobody waits for: a coroutine is closed, or else Python would warn that it was never awaited."""
    with suppress(BaseException):
        value = outcome()
        if inspect.iscoroutine(value):
            value.close()
