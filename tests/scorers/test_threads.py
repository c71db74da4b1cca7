"""Plain functions that are awaited: they hold up no one, and a caller that has gone leaves nothing but a thread."""

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import warnings

import pytest

from agentroute.scorers import UnitTests, as_asker, as_scorer
from agentroute.scorers._threads import in_thread
from agentroute.types import Query, Reply

QUERY, REPLY = Query(text="?"), Reply(text="x")
THREADS = 64  # more than any event loop's own


@pytest.fixture
def hangs():
    """An event that those who hang wait for: they end with the test."""
    event = threading.Event()
    yield event
    event.set()


async def given_up(call):
    """Waits for something that hangs, until it has begun and a deadline is over."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.01)


@pytest.mark.parametrize("kind", ["scorer", "asker"])
async def test_functions_that_hang_leave_threads_for_all_others(hangs, kind):
    if kind == "scorer":
        calls = [as_scorer(lambda reply: hangs.wait() and 1).ascore(QUERY, REPLY) for _ in range(THREADS)]
        fine = as_scorer(lambda reply: 0.5).ascore(QUERY, REPLY)
    else:
        calls = [as_asker(lambda prompt: hangs.wait() and "x").aask("?") for _ in range(THREADS)]
        fine = as_asker(lambda prompt: "y").aask("?")
    await asyncio.gather(*map(given_up, calls))
    found = await asyncio.wait_for(fine, 60)
    assert found.value == 0.5 if kind == "scorer" else found[0].text == "y"


async def test_code_is_run_though_the_threads_of_the_loop_are_taken(hangs):
    taken = [asyncio.ensure_future(asyncio.to_thread(hangs.wait)) for _ in range(THREADS)]
    code = Reply(text="def one(): return 1")
    assert (await asyncio.wait_for(UnitTests(["assert one() == 1"], timeout=30).ascore(QUERY, code), 60)).value == 1.0
    hangs.set()
    await asyncio.gather(*taken)


def test_the_process_ends_though_a_function_hangs():
    program = """
import asyncio, threading
from agentroute.scorers import as_scorer
from agentroute.types import Query, Reply
async def main():
    judge = as_scorer(lambda reply: threading.Event().wait())
    try:
        await asyncio.wait_for(judge.ascore(Query(text="?"), Reply(text="x")), 0.01)
    except asyncio.TimeoutError:
        print("gave up")
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (run.stdout, run.stderr) == ("gave up\n", "")


@pytest.mark.parametrize("late", ["value", "error", "coroutine"])
@pytest.mark.parametrize("loop_ends", [False, True])
def test_a_caller_that_has_gone_leaves_nothing_behind(late, loop_ends):
    """No logged exception, no coroutine that was never awaited, no thread that fails, no task: whatever comes too late."""
    told, threads, go = [], [], threading.Event()

    async def never():
        return 1

    def function():
        threads.append(threading.current_thread())
        go.wait()
        if late == "error":
            raise ValueError("too late")
        return never() if late == "coroutine" else 1

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        await given_up(in_thread(function))
        if not loop_ends:
            go.set()
            threads[0].join(60)
            await asyncio.sleep(0)  # what the thread has sent is looked at in the next turn
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    hook = threading.excepthook
    threading.excepthook = told.append
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            asyncio.run(main())
            go.set()
            threads[0].join(60)
            gc.collect()
    finally:
        threading.excepthook = hook
    assert not told
    # What other tests have left open may be collected just now.
    assert not [one for one in warned if not issubclass(one.category, ResourceWarning)]
    assert not threads[0].is_alive()


async def test_arguments_context_and_errors_go_through():
    where = contextvars.ContextVar("where")
    where.set("here")
    assert await in_thread(lambda one, *, two: (one, two, where.get()), 1, two=2) == (1, 2, "here")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            await in_thread(_raises, error)
    # A coroutine cannot raise this one: it must not wait for ever either.
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(in_thread(_raises, StopIteration), 60)


def _raises(error):
    raise error
