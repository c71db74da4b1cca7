"""Each script of examples/ runs, and prints what its reader is told to expect."""

from __future__ import annotations

import asyncio
import gc
import os
import runpy
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentroute.local import ModelUnavailableError, resolve

EXAMPLES = Path(__file__).parent.parent / "examples"
PRINTED = {
    "01_swap_into_chain.py": ["Paris.", "By induction", "small: the rule chose small"],
    "02_fit_from_log.py": ["Italy?  ->  small", "plus 5?  ->  large", "routed       quality 1 (1 to 1)"],
    "04_cascade.py": ["Paris.", "small (0.0) -> large (None)", "cost in all: $0.000063"],
    "05_llama_index_rag.py": [
        "closed on Mondays",
        "  4 euros",
        "Person(name='Omar', age=41)",
        "because of: best expected utility",
        "smollm2-135m: ",
        "for 'On which day is the Marigold Library closed?'",
    ],
    "06_llama_index_agents.py": [
        "desk asks small: small was allocated to desk\nadder asks large: large was allocated to adder",
        "It is 42.\nIt is 42.\n",
        "| team | desk | small | 1 | 0 | 10 | 5 | 0.000003 |",
        "| team | adder | large | 2 | 0 | 20 | 10 | 0.000120 |",
        "| cascade | solo | small | 2 | 0 | 20 | 10 | 0.000006 |",
        "| cascade | solo | large | 1 | 0 | 10 | 5 | 0.000060 |",
    ],
    "07_team_langgraph.py": ["learned from 108 runs", "planner qwen2.5-coder-0.5b", "3 runs recorded, none above $9e-05: True"],
    "08_team_llama_index.py": ["planner qwen2.5-coder-0.5b", "3 runs recorded, none above $9e-05: True"],
    "03_feedback.py": ["small answered, quality 1.0, prompt stored: False", "1 query to learn from"],
}
# Agents are workflows that look at all their attributes when they are made, pydantic's deprecated ones among them.
AGENTS = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
MARKS = {
    "05_llama_index_rag.py": [pytest.mark.local],
    "06_llama_index_agents.py": [AGENTS],
    "07_team_langgraph.py": [pytest.mark.local],
    "08_team_llama_index.py": [pytest.mark.local],
}
REAL_MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")


def test_every_example_is_tested():
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(PRINTED)


def need_real_models():
    """Where the local models cannot be had, CI fails and others skip."""
    if find_spec("xllamacpp") is None and not os.environ.get("CI"):
        pytest.skip("needs the extra local")
    try:
        for name in REAL_MODELS:
            resolve(name)
    except ModelUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def loop():
    """An event loop for those who ask for one and do not close it, as LlamaIndex does for a synchronous query."""
    own = asyncio.new_event_loop()
    asyncio.set_event_loop(own)
    yield
    asyncio.set_event_loop(None)
    own.close()
    # The providers' asynchronous clients leave their connections open when their loop ends: not for a later test to pay for.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in PRINTED])
def test_an_example_runs_and_prints(name, monkeypatch, tmp_path, capsys):
    if pytest.mark.local in MARKS.get(name, []):
        need_real_models()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    for expected in PRINTED[name]:
        assert expected in printed
