"""The distribution: a part of LlamaIndex's namespace, whole in its wheel, and what it says of itself is true."""

import importlib
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from llama_index.core.llms import LLM
from packaging.requirements import Requirement

import agentroute

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "llama_index" / "llms" / "agentroute"
MANIFEST = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = MANIFEST["project"]
HUB = MANIFEST["tool"]["llamahub"]
NAMESPACES = ["llama_index", "llama_index/llms"]


def files():
    """The package's files, as paths within the distribution."""
    return {
        file.relative_to(ROOT).as_posix() for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    built = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(next(built))


# --- a namespace shared with LlamaIndex and its other integrations (PEP 420) ---


@pytest.mark.parametrize("folder", NAMESPACES)
def test_folders_of_the_shared_namespace_hold_nothing_of_ours(folder):
    assert [entry.name for entry in (ROOT / folder).iterdir() if entry.is_file()] == []


def test_there_is_one_package_and_it_is_typed():
    assert [file.relative_to(ROOT).as_posix() for file in (ROOT / "llama_index").rglob("__init__.py")] == [
        "llama_index/llms/agentroute/__init__.py"
    ]
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_the_wheel_is_importable_beside_llama_index_and_its_other_integrations(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import llama_index.llms.agentroute, llama_index.core, llama_index.llms.openai_like, llama_index.llms.agentroute.selectors
print(llama_index.llms.agentroute.__file__)
print(llama_index.__file__, llama_index.llms.__file__, llama_index.llms.openai_like.OpenAILike.__name__)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    first, second = run.stdout.splitlines()
    assert Path(first) == tmp_path / "llama_index" / "llms" / "agentroute" / "__init__.py"
    assert second == "None None OpenAILike"


# --- what is built ---


def test_a_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"llama_index_llms_agentroute-{PROJECT['version']}.dist-info"
    assert {name for name in names if not name.startswith(f"{info}/")} == files()
    assert {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")} == set(names) - files()
    assert wheel.name == f"llama_index_llms_agentroute-{PROJECT['version']}-py3-none-any.whl"


def test_a_source_archive_holds_the_package_its_tests_and_its_papers(tmp_path):
    built = Path(next(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files() | {"pyproject.toml", "README.md", "LICENSE", "tests/unit_tests/test_packaging.py"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        "llama_index",
        "tests",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "PKG-INFO",
        ".gitignore",
    }


# --- what pyproject.toml says ---


def test_what_llama_hub_is_told_is_there():
    assert HUB["import_path"] == PACKAGE.relative_to(ROOT).as_posix().replace("/", ".")
    assert HUB["contains_example"] is False
    module = importlib.import_module(HUB["import_path"])
    assert Path(module.__file__).name == "__init__.py"


@pytest.mark.parametrize("name", HUB["class_authors"])
def test_classes_whose_authors_are_named_are_llms_of_the_package(name):
    module = importlib.import_module(HUB["import_path"])
    kind = getattr(module, name)
    assert name in module.__all__
    assert issubclass(kind, LLM)
    assert kind.__module__.startswith(f"{HUB['import_path']}.")


def test_every_llm_of_the_package_has_an_author():
    module = importlib.import_module(HUB["import_path"])
    public = {name: getattr(module, name) for name in module.__all__}
    llms = {name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, LLM)}
    assert llms == set(HUB["class_authors"])


def test_version_in_lockstep_with_the_core():
    version = PROJECT["version"]
    assert version == agentroute.__version__ == metadata.version("agentroute-sdk") == metadata.version(PROJECT["name"])
    required = {one.name: one for one in map(Requirement, PROJECT["dependencies"])}
    assert str(required["agentroute-sdk"].specifier) == f"=={version}"


def test_the_core_forwards_to_it_in_the_same_version():
    extra = [Requirement(line) for line in metadata.requires("agentroute-sdk") if "llama-index-llms-agentroute" in line]
    assert [str(one.specifier) for one in extra] == [f"=={PROJECT['version']}"]
    assert extra[0].marker.evaluate({"extra": "llama-index"})
    assert not extra[0].marker.evaluate({"extra": "langchain"})


def test_it_needs_the_core_and_llama_index_and_nothing_else():
    required = {one.name: one.specifier for one in map(Requirement, PROJECT["dependencies"])}
    assert set(required) == {"agentroute-sdk", "llama-index-core"}
    installed = metadata.version("llama-index-core")
    assert installed in required["llama-index-core"]
    # The first in which events carry no secrets, and the next minor version, which nobody has tried.
    assert "0.14.22" not in required["llama-index-core"]
    assert "0.14.23" in required["llama-index-core"]
    assert "0.15.0" not in required["llama-index-core"]
