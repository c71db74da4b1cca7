from __future__ import annotations

import re
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import agentroute

ROOT = Path(__file__).parent.parent
FOLDERS = {"agentroute-sdk": ROOT, "langchain-agentroute": ROOT / "integrations" / "langchain"}
MANIFESTS = {name: tomllib.loads((folder / "pyproject.toml").read_text()) for name, folder in FOLDERS.items()}


def requirements():
    """Every requirement that any manifest, the installed metadata or the constraints state."""
    for manifest in MANIFESTS.values():
        yield from manifest["build-system"]["requires"]
        yield from manifest["project"].get("dependencies", [])
        for extra in manifest["project"].get("optional-dependencies", {}).values():
            yield from extra
        for group in manifest.get("dependency-groups", {}).values():
            yield from group
    for name in MANIFESTS:
        yield from metadata.requires(name) or []
    yield from (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FOLDERS)
def test_versions_are_in_lockstep_and_those_of_the_installed_packages(name):
    version = MANIFESTS["agentroute-sdk"]["project"]["version"]
    assert MANIFESTS[name]["project"]["name"] == name
    assert MANIFESTS[name]["project"]["version"] == version == metadata.version(name)
    assert agentroute.__version__ == version


def test_the_changelog_and_the_citation_know_the_version():
    version = re.escape(agentroute.__version__)
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_our_packages_require_each_other_in_the_same_version():
    ours = [Requirement(line) for line in requirements()]
    pins = [one for one in ours if canonicalize_name(one.name) == "langchain-agentroute"]
    assert pins
    assert {str(one.specifier) for one in pins} == {f"=={agentroute.__version__}"}
    core = [Requirement(line) for line in MANIFESTS["langchain-agentroute"]["project"]["dependencies"]]
    assert [str(one.specifier) for one in core if one.name == "agentroute-sdk"] == [f"=={agentroute.__version__}"]


def test_nothing_requires_the_unrelated_distribution_of_our_name():
    assert "agentroute" not in {canonicalize_name(Requirement(line).name) for line in requirements()}


def test_constraints_hold_exact_versions_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        wanted = Requirement(line)
        assert wanted.url is None
        assert re.fullmatch(r"==[\w.!+]+", str(wanted.specifier)), line


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_the_package_its_data_and_its_licence(name, tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    package = FOLDERS[name] / name.removesuffix("-sdk").replace("-", "_")
    expected = {
        file.relative_to(package.parent).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    wheel = zipfile.ZipFile(next(WheelBuilder(str(FOLDERS[name])).build(directory=str(tmp_path), versions=["standard"])))
    found = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
    assert found == expected
    assert f"{package.name}/py.typed" in found
    assert any(entry.endswith("/LICENSE") for entry in wheel.namelist())


def test_the_core_wheel_carries_the_embedder_and_its_notice(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    wheel = zipfile.ZipFile(next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    assert "agentroute/data/static-minilm/model.safetensors" in wheel.namelist()
    notice = next(entry for entry in wheel.namelist() if entry.endswith("/NOTICE"))
    assert b"1110a243fdf4706b3f48f1d95db1a4f5529b4d41" in wheel.read(notice)
