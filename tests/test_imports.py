"""What `import agentroute` costs: in a fresh process, because this one has loaded everything already."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "faiss",
    "huggingface_hub",
    "langchain",
    "langchain_core",
    "langgraph",
    "llama_index",
    "model2vec",
    "openai",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
    "typer",
    "xllamacpp",
)
PROBE = """
import json, sys
{statement}
modules = sorted(sys.modules)
# VmHWM, not ru_maxrss: the latter is inherited from the process that started this one.
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
print(json.dumps({{"modules": modules, "peak": peak}}))
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def probe(statement):
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    "statement",
    [
        "import agentroute",
        "import agentroute; [getattr(agentroute, name) for name in agentroute.__all__]",
        "from agentroute import ModelPool, Router; Router(ModelPool(['small', 'large']), default='large')",
        "from agentroute.estimators import LogisticEstimator, MLPEstimator; LogisticEstimator(), MLPEstimator()",
    ],
    ids=["bare", "every name", "an unfitted router", "unfitted heads"],
)
def test_nothing_heavy_is_imported(statement):
    loaded = {module.partition(".")[0] for module in probe(statement)["modules"]}
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_the_bare_import_stays_light():
    assert probe("import agentroute")["peak"] <= 60 * 2**20
