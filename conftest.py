"""Examples are tests: the code of the Markdown files and the docstrings of all packages run (sybil)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers import markdown, rest

PACKAGES = ("agentroute", "langchain_agentroute")
PLACES = (
    "France Peru Japan Kenya Norway Egypt Chile Nepal Ghana Spain Cuba Poland Greece Kuwait Fiji Laos Mali Oman Togo Qatar "
    "Malta Cyprus Latvia Jordan Sudan Chad Angola Benin Bolivia Brazil Canada Denmark Ecuador Gabon Haiti India Iraq Iran Syria "
    "Finland"
)


def write_answers(file: Path) -> None:
    """A log of two models: the small one knows capitals but not sums, the large one both, at twenty times the cost."""
    asked = [(f"What is the capital of {place}?", 1) for place in PLACES.split()]
    asked += [(f"What is {a} times {b} plus {a}?", 0) for a in range(13, 23) for b in (17, 23, 29, 31)]
    rows = []
    for prompt, easy in asked:
        rows.append({"prompt": prompt, "model": "small", "score": easy, "cost_usd": 0.0001, "latency_s": 0.4})
        rows.append({"prompt": prompt, "model": "large", "score": 1, "cost_usd": 0.002, "latency_s": 1.5})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory for one document: a log to learn from, and what its examples write for those after them."""
    folder = tmp_path_factory.mktemp("example")
    write_answers(folder / "answers.jsonl")
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
    patterns=[f"{package}/{depth}.py" for package in PACKAGES for depth in ("*", "*/*", "*/*/*")],
    fixtures=["own_folder"],
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LlamaIndex's agents look at all their attributes when they are made, pydantic's deprecated ones among them."""
    for item in items:
        if item.path.suffix == ".md" and "llama-index" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"))


pytest_collect_file = (documents + docstrings).pytest()
