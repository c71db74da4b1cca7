"""Examples are tests: the code of the Markdown files and the docstrings of both packages run (sybil)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers import markdown, rest


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty working directory for one document: its examples may write files for those after them."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


documents = Sybil(
    parsers=[markdown.PythonCodeBlockParser(), markdown.SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    fixtures=["own_folder"],
)
docstrings = Sybil(
    parsers=[rest.DocTestParser()],
    patterns=["agentroute/*.py", "agentroute/*/*.py", "langchain_agentroute/*.py", "langchain_agentroute/*/*.py"],
    fixtures=["own_folder"],
)
pytest_collect_file = (documents + docstrings).pytest()
