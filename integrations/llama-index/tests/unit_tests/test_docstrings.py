"""The examples in docstrings run. A namespace package has no folder that tells its modules' names, so they are named here."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import llama_index.llms.agentroute as package

MODULES = sorted(file.stem for file in Path(package.__path__[0]).glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(import_module(f"{package.__name__}.{name}")).failed == 0


def test_some_module_has_examples():
    assert sum(doctest.testmod(import_module(f"{package.__name__}.{name}")).attempted for name in MODULES) > 0
