"""What must not stand anywhere in the tree: code that runs data, and traces of the machine it was written on."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("agentroute", "integrations", "scripts", "examples", "benchmarks")
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("os", "system"), ("os", "popen")}
TRACES = re.compile(
    r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/"
    r"|(?<![\w.])/(?:tmp|opt)/(?:dl|wheels|pypi|bash_jobs|brief)"
    r"|https?://[^\s/\"'>)]*(?:pypi|pythonhosted|artifact|nexus|registry|mirror|devpi)",
)


def sources():
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            if "tests" not in file.relative_to(ROOT).parts:
                yield file


def offences(tree):
    """Line and description of each import or call that could run what a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(tuple(name.rsplit(".", 1)) in CALLS for name in names):
                yield node.lineno, f"import of {names[1:]}"
        else:
            names = []
        if any(name.split(".")[0] in MODULES for name in names):
            yield node.lineno, f"import of {names}"
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.lineno, node.id
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in CALLS:
            yield node.lineno, f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                harmless = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in {"allow_pickle", "shell"} and not harmless:
                    yield node.lineno, f"{keyword.arg}={ast.unparse(keyword.value)}"
            if isinstance(node.func, ast.Name) and node.func.id == "import_module":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and str(first.value).split(".")[0] in MODULES:
                    yield node.lineno, f"import of {first.value}"


@pytest.mark.parametrize("file", list(sources()), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_code_runs_data(file):
    assert list(offences(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import os, joblib.memory",
        "from dill import loads",
        "from torch import load",
        "def f():\n    from cloudpickle import dumps",
        "eval('1')",
        "run = exec",
        "compile('1', '', 'eval')",
        "torch.load(path)",
        "yaml.load(text, Loader=loader)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "import_module('pickle')",
    ],
)
def test_the_search_finds(code):
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["np.load(path)", "np.load(path, allow_pickle=False)", "model.eval()", "json.load(file)", "re.compile('x')"]
)
def test_the_search_lets_pass(code):
    assert not list(offences(ast.parse(code)))


def committed():
    """Every file that git tracks, less what is not text."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            content = (ROOT / name).read_bytes()
            if b"\0" not in content[:8192]:
                yield name, content.decode("utf-8", "replace")


def test_nothing_committed_names_this_machine_or_a_registry():
    found = [
        f"{name}:{content.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, content in committed()
        for match in TRACES.finditer(content)
    ]
    assert found == []


def test_no_lock_file_is_committed():
    assert not {name for name, _ in committed()} & {"uv.lock", "poetry.lock", "Pipfile.lock"}


@pytest.mark.parametrize("text", ["cd /" + "work/main", "see /" + "root/x", "https://" + "pypi.example/simple"])
def test_a_trace_would_be_found(text):
    assert TRACES.search(text)
