"""How the chosen LLM is asked: each attempt has a template of its own."""

from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import PromptTemplate, SelectorPromptTemplate
from pydantic import BaseModel

from llama_index.llms.agentroute import _requests as requests
from llama_index.llms.agentroute._candidates import targets_of
from llama_index.llms.agentroute.testing import ScriptedLLM


class AsItIs:
    prepares = False

    def normalised(self, messages, target):
        return list(messages)


class City(BaseModel):
    name: str


def test_an_attempt_sets_its_parser_on_templates_of_its_own_also_behind_a_selector():
    inner, other = PromptTemplate("Where is {what}?"), PromptTemplate("{what}: where?")
    prompt = SelectorPromptTemplate(inner, conditionals=[(lambda llm: llm.metadata.model_name == "large", other)])
    targets = targets_of({name: ScriptedLLM(replies=["x"], model=name) for name in ("small", "large")})
    asked = requests.structured(City, prompt, None, {"what": "Lima"})
    made = {name: asked.ready(target, AsItIs()).args[1] for name, target in targets.items()}
    for template in made.values():
        template.output_parser = PydanticOutputParser(City)
    assert made["small"].template == inner.template
    assert made["large"].template == other.template
    assert inner.output_parser is other.output_parser is prompt.output_parser is None
