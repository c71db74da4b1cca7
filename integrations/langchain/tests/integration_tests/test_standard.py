"""LangChain's standard integration suite, offline: the candidates are scripted."""

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_agentroute import RoutedChatModel
from langchain_agentroute.testing import ScriptedChatModel

# The v3 event streams are in beta in LangChain, which says so at each call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


def scripted():
    return {"small": ScriptedChatModel(model_name="small"), "large": ScriptedChatModel(model_name="large")}


class TestRouted(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return RoutedChatModel

    @property
    def chat_model_params(self):
        return {"models": scripted(), "router": lambda query: "small" if len(query.text) < 20 else "large"}

    @property
    def model_override_value(self):
        return "large"


class TestRoutedOverMixedBindings(TestRouted):
    """A candidate with a bound configuration, and a routed model as the other candidate."""

    @property
    def chat_model_params(self):
        small, large = scripted().values()
        inner = RoutedChatModel(models={"small": small.with_config(tags=["inner"])})
        return {"models": {"inner": inner, "large": large}, "router": lambda query: "inner" if len(query.text) < 20 else "large"}


class TestScripted(ChatModelIntegrationTests):
    """The test model itself."""

    @property
    def chat_model_class(self):
        return ScriptedChatModel

    @property
    def chat_model_params(self):
        return {"model_name": "scripted"}

    @property
    def model_override_value(self):
        return "other"
