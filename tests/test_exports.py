from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import agentroute
from agentroute import errors

FROZEN = """
    AgentRouteError AgentRouteWarning AllModelsFailedError ArtefactError BudgetError BudgetOverrunWarning BudgetPolicy
    CallableEmbedder Candidate ConfigError
    DataError DeadlineExceededError Decision DuplicateModelError Embedder EmbedderMismatchError Estimate Estimator Explanation
    Fingerprint GenaiPrices JudgeFailedWarning KNNEstimator LowSupportWarning MeanEstimator MemoryOutcomeLog MissingExtraError
    MissingSignalError ModelCard ModelPool NoEligibleModelError NotFittedError Outcome OutcomeDroppedWarning OutcomeLog
    OutcomeTable OutcomesSkippedWarning Paradigm Policy Price PriceBook PriceUnknownError PriceUnknownWarning Query
    QueuedOutcomeLog Router RouterFailedWarning SentenceTransformerEmbedder SqliteOutcomeLog StaticEmbedder StaticPrices
    StorageError UnknownModelError Usage UtilityPolicy
""".split()


def test_the_public_names_are_those_we_promised():
    assert agentroute.__all__ == FROZEN == sorted(set(FROZEN))


def test_every_error_is_public():
    assert set(errors.__all__) <= set(agentroute.__all__)


@pytest.mark.parametrize("name", FROZEN)
def test_a_public_name_is_what_it_says(name):
    found = getattr(agentroute, name)
    assert found.__name__ == name
    assert found.__module__.startswith("agentroute.")
    assert getattr(agentroute, name) is found


def test_star_import_and_dir_know_the_names_before_they_are_loaded():
    code = "import agentroute; print(*dir(agentroute)); from agentroute import *; print(Router.__name__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(FROZEN) | {"__version__"} <= set(shown[0].split())
    assert shown[1] == "Router"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Ruoter'"):
        _ = agentroute.Ruoter


PLUG_INS = Path(__file__).parent.parent / "integrations"
PRIVATE = re.compile(r"^\s*(?:from|import) agentroute(?:\.\w+)*\._|^\s*from agentroute[\w.]* import .*\b_\w+", re.MULTILINE)


@pytest.mark.parametrize("plug_in", sorted(one.name for one in PLUG_INS.iterdir() if (one / "pyproject.toml").is_file()))
def test_the_plug_ins_use_public_rooms_only(plug_in):
    packages = [file for file in (PLUG_INS / plug_in).rglob("*.py") if "tests" not in file.relative_to(PLUG_INS).parts]
    assert packages
    assert {file.name: found for file in packages if (found := PRIVATE.findall(file.read_text()))} == {}


def test_every_folder_of_integrations_is_a_plug_in():
    folders = {one.name for one in PLUG_INS.iterdir() if one.is_dir() and any(one.rglob("*.py"))}
    assert "langchain" in folders
    assert {name for name in folders if not (PLUG_INS / name / "pyproject.toml").is_file()} == set()


@pytest.mark.parametrize(
    "line",
    [
        "from agentroute.serving._turns import Turn",
        "import agentroute.serving._turns",
        "    from agentroute.serving import Turn, _turns",
        "from agentroute._prices import x",
    ],
)
def test_private_rooms_are_seen(line):
    assert PRIVATE.search(f"import os\n{line}\n")
    assert not PRIVATE.search("from agentroute.serving import Turn\nfrom langchain_agentroute._turns import x\n")
