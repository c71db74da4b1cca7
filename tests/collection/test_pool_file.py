"""Pool files in TOML."""

import pytest

from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError, DuplicateModelError

GOOD = """
[[models]]
id = "far"
base_url = "https://models.example/v1"
model = "far-1"
api_key_env = "FAR_KEY"
options = { reasoning_effort = "low" }
price = { input = 0.5, output = 2 }
context_window = 1000
capabilities = ["tools"]
scores = { HumanEval = 0.5 }

[[models]]
id = "near"
local = "smollm2-135m"
"""


def read(tmp_path, text):
    path = tmp_path / "pool.toml"
    path.write_text(text)
    return read_pool(path)


def test_reads_cards_and_places(tmp_path, monkeypatch):
    far, near = read(tmp_path, GOOD)
    assert (far.base_url, far.model, dict(far.options)) == ("https://models.example/v1", "far-1", {"reasoning_effort": "low"})
    assert (far.card.price.input, far.card.price.output, far.card.capabilities) == (0.5, 2, frozenset({"tools"}))
    assert far.card.scores == {"HumanEval": 0.5}
    assert (near.model, near.local, near.card.price, near.api_key()) == ("near", "smollm2-135m", None, None)
    assert pool_of((far, near)).ids == ("far", "near")
    monkeypatch.delenv("FAR_KEY", raising=False)
    with pytest.raises(ConfigError, match="FAR_KEY is not set"):
        far.api_key()
    monkeypatch.setenv("FAR_KEY", "k")
    assert far.api_key() == "k"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = ", "not a pool file"),
        ('[[models]]\nid="a"\nscores={ MMLU = 87 }\n', "87 % is 0.87"),
        ('[[models]]\nid="a"\nscores={ MMLU = "good" }\n', "'<='"),
        ("", r"one \[\[models\]\] table"),
        ("models = [1]", r"one \[\[models\]\] table"),
        ('[[models]]\nid="a"\n[other]\n', "unknown table 'other'"),
        ("[[models]]\nprice={input=1,output=1}", "model 1: the field 'id' is missing"),
        ('[[models]]\nid="a"\nprize=3', "model 'a': unknown field 'prize'"),
        ('[[models]]\nid="a"\ncontext_window="big"', "context_window='big' is not a int"),
        ('[[models]]\nid="a"\ncontext_window=true', "is not a int"),
        ('[[models]]\nid="a"\ncontext_window=-1', "must be positive"),
        ('[[models]]\nid="a"\nprice={input=-1,output=1}', "price input=-1"),
        ('[[models]]\nid="a"\nprice={input=1}', "output"),
        ('[[models]]\nid="a"\nlocal="x"\nbase_url="http://x"', "not both"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, text)


def test_two_models_with_one_id(tmp_path):
    with pytest.raises(DuplicateModelError):
        read(tmp_path, '[[models]]\nid="a"\n[[models]]\nid="a"')
