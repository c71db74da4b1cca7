from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import agentroute
from agentroute import errors

FROZEN = """
    AgentRouteError AgentRouteWarning AllModelsFailedError ArtefactError BudgetPolicy CallableEmbedder Candidate ConfigError
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


def test_the_plug_ins_use_public_rooms_only():
    plug_in = Path(__file__).parent.parent / "integrations" / "langchain" / "langchain_agentroute"
    private = re.compile(r"^\s*(?:from|import) agentroute(?:\.\w+)*\._|^\s*from agentroute[\w.]* import .*\b_\w+", re.MULTILINE)
    assert list(plug_in.glob("*.py"))
    assert {file.name: found for file in plug_in.rglob("*.py") if (found := private.findall(file.read_text()))} == {}
