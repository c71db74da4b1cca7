"""Each script of examples/ runs, and prints what its reader is told to expect."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PRINTED = {
    "01_swap_into_chain.py": ["Paris.", "By induction", "small: the rule chose small"],
    "02_fit_from_log.py": ["Italy?  ->  small", "plus 5?  ->  large", "routed       quality 1 (1 to 1)"],
    "04_cascade.py": ["Paris.", "small (0.0) -> large (None)", "cost in all: $0.000063"],
    "03_feedback.py": ["small answered, quality 1.0, prompt stored: False", "1 query to learn from"],
}


def test_every_example_is_tested():
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_and_prints(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    for expected in PRINTED[name]:
        assert expected in printed
