"""LangChain's standard unit suite."""

from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_agentroute import CascadeChatModel, RoutedChatModel
from langchain_agentroute.testing import ScriptedChatModel


class TestRouted(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return RoutedChatModel

    @property
    def chat_model_params(self):
        return {
            "models": {"small": ScriptedChatModel(model_name="small"), "large": ScriptedChatModel(model_name="large")},
            "router": lambda query: "small" if len(query.text) < 20 else "large",
        }


class TestCascade(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return CascadeChatModel

    @property
    def chat_model_params(self):
        return {
            "models": {"small": ScriptedChatModel(model_name="small"), "large": ScriptedChatModel(model_name="large")},
            "judge": lambda reply: True,
        }


class TestScripted(ChatModelUnitTests):
    """The test model must itself be a proper chat model, or the tests that use it prove nothing."""

    @property
    def chat_model_class(self):
        return ScriptedChatModel

    @property
    def chat_model_params(self):
        return {"model_name": "scripted"}
