"""Code of an answer runs in real subprocesses, and its limits really hold.

What the shared runner does besides is tested with the verifiers of collecting.
"""

import asyncio
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers import UnitTests, _code
from agentroute.types import Query, Reply

QUERY = Query(text="?")


async def value(scorer, text):
    """The value, which must be the same awaited, free, and 0 or 1 under the scorer's name."""
    found = scorer.score(QUERY, Reply(text=text))
    assert found == await scorer.ascore(QUERY, Reply(text=text))
    assert (found.cost, dict(found.signals)) == (0.0, {"unit_tests": found.value})
    return found.value


DOUBLE = ["assert double(2) == 4", "assert double('a') == 'aa'"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Here:\n```python\ndef double(x):\n    return 2 * x\n```", 1.0),
        ("def double(x): return x + x", 1.0),
        ("def double(x): return x ** 2", 0.0),
        ("", 0.0),
    ],
)
async def test_unit_tests(answer, expected):
    assert await value(UnitTests(DOUBLE), answer) == expected


@pytest.mark.parametrize("end", ["while 0: \\", "if 0: \\", "'''", "x = '''", "(", "@str", "#", "if 0:", "lambda: \\", "try:"])
async def test_the_end_of_the_code_cannot_swallow_the_tests(end):
    for code in (f"double = None\n{end}", f"```python\ndouble = None\n{end}\n```"):
        assert await value(UnitTests(["assert double(2) == 4"]), code) == 0.0


def test_the_tests_run_in_the_namespace_of_the_code():
    code = "from __future__ import annotations\nimport sys\nmade = 0\ndef make():\n    global made\n    made += 1"
    kind = "from dataclasses import dataclass\n@dataclass\nclass Pair:\n    one: int"
    assert passes(code, "make()", "assert made == 1", "assert sys.modules['__main__'].made == 1")
    assert passes(kind, "import pickle", "assert pickle.loads(pickle.dumps(Pair(3))) == Pair(3)")
    assert passes("", "assert (__name__, __file__) == ('__main__', 'answer.py')", "assert '{x}' == '{' + 'x}'")
    where = "try:\n    fail()\nexcept ZeroDivisionError as error:\n    frames = traceback.extract_tb(error.__traceback__)"
    frames = "assert [(one.filename, one.lineno) for one in frames] == [('tests.py', 3), ('answer.py', 1)], frames"
    assert passes("def fail(): return 1 / 0", "import traceback", where, frames)


async def test_a_longer_answer_is_not_run():
    assert await value(UnitTests(["pass"], limit=3), "a=1") == 1.0
    assert await value(UnitTests(["pass"], limit=3), "a=12") == 0.0
    assert await value(UnitTests(["pass"]), "#" * 1_000_000) == 0.0


def passes(code, *tests, **options):
    return UnitTests(tests or ["pass"], **options).score(QUERY, Reply(text=code)).value == 1.0


def test_tests_may_depend_on_the_query():
    scorer = UnitTests(lambda query: ["assert f() == 1"] if query.text == "one" else None)
    assert scorer.score(Query(text="one"), Reply(text="def f(): return 1")).value == 1.0
    with pytest.raises(MissingSignalError, match="unit tests"):
        scorer.score(Query(text="two"), Reply(text="def f(): return 1"))


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": float("nan")}, {"memory": 1}, {"tests": []}, {"tests": "assert x"}, {"tests": [1]}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        UnitTests(**{"tests": ["pass"], **options})


def test_a_loop_ends_with_the_time():
    assert not passes("while True: pass", timeout=0.5)
    assert not passes("import time; time.sleep(60)", timeout=0.5)  # which takes no processor time


def test_processor_time_is_limited_too():
    limits = "import resource\nfound = resource.getrlimit(resource.RLIMIT_CPU)"
    assert passes(limits, "assert found == (3, 3), found", timeout=2.5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit on memory")
def test_memory_is_limited():
    assert not passes("room = bytearray(200 << 20)", memory=128 << 20)
    assert passes("room = bytearray(32 << 20)", memory=128 << 20)
    assert passes("room = bytearray(200 << 20)")


def test_no_file_gets_a_byte(tmp_path):
    target = tmp_path / "written"
    write = f"file = open({str(target)!r}, 'wb', buffering=0)\n"
    assert not passes(f"{write}file.write(b'x')")
    assert not target.exists() or target.stat().st_size == 0
    assert not passes("with open('here', 'w') as file: file.write('x')")


def test_output_without_end_stays_in_the_child():
    assert not passes("while True: print('x' * 1_000_000)", timeout=0.5)
    assert passes("import sys\nsys.stdout.write('x' * 5_000_000)\nsys.stderr.write('x' * 5_000_000)")


def test_few_files_may_be_open():
    assert not passes("import os\nfiles = [open(os.devnull) for _ in range(20)]")


def test_secrets_and_packages_stay_outside(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert passes("import os", "assert 'OPENAI_API_KEY' not in os.environ")
    assert not passes("import numpy")
    assert passes("import os", "assert os.listdir() == ['answer.py']")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_processes_are_limited():
    """Root is free of the limit, so that there the number is read back instead of run into."""
    listed = subprocess.run(["ps", "-L", "-u", str(os.geteuid())], capture_output=True, text=True, check=True).stdout
    read = "import resource\nfound, hard = resource.getrlimit(resource.RLIMIT_NPROC)"
    # Threads and processes of this user come and go meanwhile.
    assert passes(read, f"assert found == hard and abs(found - 256 - {len(listed.splitlines())}) < 200, (found, hard)")
    if os.geteuid() != 0:
        bomb = "import os, time\nmade = 0\nwhile made < 1000:\n    if os.fork() == 0: time.sleep(60)\n    made += 1"
        assert not passes(bomb)
    threads = "from threading import Thread\nfound = []\nall = [Thread(target=found.append, args=(i,)) for i in range(8)]"
    assert passes(
        f"{threads}\n[one.start() for one in all]\n[one.join() for one in all]", "assert sorted(found) == list(range(8))"
    )


@pytest.fixture
def alive(tmp_path):
    """A line of code that opens a pipe, and whether all who have opened it, or were made by them, are gone."""
    path = tmp_path / "alive"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def gone(seconds=10):
        return bool(select.select([end], [], [], seconds)[0]) and os.read(end, 1) == b""

    yield f"import os, subprocess, sys, time\nalive = os.open({str(path)!r}, os.O_WRONLY)\n", gone
    os.close(end)


def test_nothing_is_left_behind(alive):
    """A process that sleeps for a minute, and holds one end of a pipe, is gone when the score is there."""
    opens, gone = alive
    assert passes(f"{opens}if os.fork() == 0: time.sleep(60)", timeout=20.0)
    assert gone()


LEAVES = {
    "session": "if os.fork() == 0:\n    os.setsid()\n    time.sleep(60)",
    "group": "if os.fork() == 0:\n    os.setpgid(0, 0)\n    time.sleep(60)",
    "daemon": "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    time.sleep(60)",
    "chain": "for _ in range(9):\n    if os.fork(): break\n    os.setsid()\nif _: time.sleep(60)",
    "program": "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
    "subprocess.Popen(sleep, pass_fds=[alive], start_new_session=True)",
    "deaf": "import signal\nif os.fork() == 0:\n    [signal.signal(one, signal.SIG_IGN) for one in (1, 2, 15)]\n    os.setsid()\n"
    "    time.sleep(60)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can kill a group of processes alone")
@pytest.mark.parametrize(("leaves", "late"), [*((one, False) for one in LEAVES), ("daemon", True), ("deaf", True)])
def test_nothing_is_left_behind_in_a_session_of_its_own(alive, leaves, late):
    opens, gone = alive
    hangs = "\nos.write(alive, b'x')\ntime.sleep(60)" if late else ""
    # The first of them goes on; those that it left must have been there.
    code = f"{opens}me = os.getpid()\n{LEAVES[leaves]}\nif os.getpid() != me: os._exit(0){hangs}"
    assert passes(code, timeout=5.0 if late else 20.0) is not late
    if not late:
        assert gone()
        return
    # What it has written comes first, which shows that it came so far.
    assert not gone()
    assert gone()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell that a parent has died")
def test_nothing_is_left_behind_when_we_are_killed(alive):
    opens, gone = alive
    code = f"{opens}if os.fork() == 0: os.setsid()\nos.write(alive, b'x')\ntime.sleep(60)"
    program = f"""
from agentroute.scorers import UnitTests
from agentroute.types import Query, Reply
UnitTests(["pass"], timeout=600).score(Query(text="?"), Reply(text={code!r}))
"""
    with subprocess.Popen([sys.executable, "-c", program]) as ours:
        assert not gone(60), "it has not begun"
        ours.kill()
    assert any(gone() for _ in range(3)), "what the other of them wrote comes first"


@pytest.mark.parametrize("begun", [False, True])
async def test_nothing_is_left_behind_when_the_caller_is_cancelled(alive, begun):
    opens, gone = alive
    code = Reply(text=f"{opens}os.write(alive, b'x')\ntime.sleep(60)")
    run = asyncio.create_task(UnitTests(["pass"], timeout=600).ascore(QUERY, code))
    await asyncio.sleep(0)
    if begun:
        assert not await asyncio.to_thread(gone, 60), "it has not begun"
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    threads = [one for one in threading.enumerate() if one.name == "agentroute-scorer"]
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert not any(one.is_alive() for one in threads)
    assert gone() or not begun


def test_signals_to_all_of_its_group_reach_neither_us_nor_the_score():
    for signal in (9, 15):
        assert not passes(f"import os\nos.kill(0, {signal})")
        assert not passes(f"import os\nos.killpg(os.getpgid(0), {signal})")
    assert passes("x = 1")


def test_where_nothing_can_watch_the_group_is_killed(alive, monkeypatch):
    """As on systems other than Linux."""
    monkeypatch.setattr(_code, "_CHILD", _code._CHILD.replace("split({parent})", "pass"))
    monkeypatch.setattr(_code.sys, "platform", "darwin")
    opens, gone = alive
    assert passes(f"{opens}if os.fork() == 0: time.sleep(60)", timeout=20.0)
    assert gone()
    assert not passes("import time; time.sleep(60)", timeout=0.5)
    assert not passes("def one(): return 2", "assert one() == 1")
