"""What the tests share: every door of an LLM, two candidates, and ears for LlamaIndex's events."""

import gc
import threading
import warnings
from dataclasses import dataclass, field

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import BaseModel, PrivateAttr

from llama_index.llms.agentroute import ModelRoutedEvent, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM


class Pair(BaseModel):
    """A name and a number."""

    name: str
    number: int


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)
TEMPLATE = PromptTemplate("Answer briefly.\nQuestion: {query_str}\nAnswer:")
FOUR = ("", "a", "stream_", "astream_")
DOORS = (
    *(f"{kind}chat" for kind in FOUR),
    *(f"{kind}complete" for kind in FOUR),
    *(f"{kind}chat_with_tools" for kind in FOUR),
    *("predict", "apredict", "stream", "astream"),
    *(f"{kind}structured_predict" for kind in FOUR),
    *("predict_and_call", "apredict_and_call"),
    *(f"structured:{kind}chat" for kind in FOUR),
)


@dataclass(frozen=True)
class Door:
    """One public way to ask an LLM."""

    name: str

    @property
    def method(self):
        return self.name.removeprefix("structured:")

    @property
    def awaits(self):
        return self.method.startswith("a") and not self.method.startswith("add")

    @property
    def streams(self):
        return "stream" in self.method

    @property
    def shape(self):
        if self.name.startswith("structured:"):
            return "structured"
        for part, shape in (("structured", "object"), ("complete", "completion"), ("predict_and_call", "result")):
            if part in self.name:
                return shape
        return "chat" if "chat" in self.name else "text"

    @property
    def takes_tools(self):
        return "tools" in self.name or "call" in self.name

    @property
    def records(self):
        """Whether its answers have a place for the record."""
        return self.shape in {"chat", "completion", "result"}

    def opened(self, llm, text, kwargs):
        """What the method gives: an answer, an iterator, or something to await."""
        if self.shape == "structured":
            return getattr(llm.as_structured_llm(Pair), self.method)([ChatMessage(text)], **kwargs)
        ask = getattr(llm, self.method)
        if self.takes_tools:
            return ask(kwargs.pop("tools", [ADD]), text, **kwargs)
        if self.shape == "object":
            return ask(Pair, TEMPLATE, query_str=text, **kwargs)
        if self.shape == "text":
            return ask(TEMPLATE, query_str=text, **kwargs)
        return ask(text if self.shape == "completion" else [ChatMessage(text)], **kwargs)

    async def items(self, llm, text="What of 3 and 4?", **kwargs):
        """The answer, or the items of the stream."""
        found = self.opened(llm, text, kwargs)
        if self.awaits:
            found = await found
            return [item async for item in found] if self.streams else [found]
        return list(found) if self.streams else [found]

    async def __call__(self, llm, text="What of 3 and 4?", **kwargs):
        """The answer; of a stream, its last item, or all of its text."""
        items = await self.items(llm, text, **kwargs)
        return "".join(items) if self.shape == "text" else items[-1]

    def record(self, answer):
        return (answer.metadata if self.shape == "result" else answer.additional_kwargs)["agentroute"]


def _fixture(name, chosen):
    @pytest.fixture(name=name, params=chosen)
    def door(request):
        return Door(request.param)

    return door


door = _fixture("door", DOORS)
stream_door = _fixture("stream_door", [name for name in DOORS if Door(name).streams])
recording_door = _fixture("recording_door", [name for name in DOORS if Door(name).records])
recording_stream = _fixture("recording_stream", [name for name in DOORS if Door(name).records and Door(name).streams])
object_door = _fixture("object_door", [name for name in DOORS if Door(name).shape in {"object", "structured"}])
tool_door = _fixture("tool_door", [name for name in DOORS if Door(name).takes_tools])


class Ears(BaseEventHandler):
    """Keeps every event."""

    _heard: list = PrivateAttr(default_factory=list)
    _lock: object = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def class_name(cls):
        return "Ears"

    def handle(self, event, **kwargs):
        with self._lock:
            self._heard.append(event)

    def of(self, *names):
        """The events of these classes, in order."""
        return [event for event in self._heard if event.class_name() in names]

    @property
    def all(self):
        return list(self._heard)

    @property
    def routed(self):
        return [event for event in self._heard if isinstance(event, ModelRoutedEvent)]


@pytest.fixture
def attached():
    """Attaches handlers of events to the root dispatcher, until the test is over."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)

    def attach(handler):
        dispatcher.add_event_handler(handler)
        return handler

    yield attach
    dispatcher.event_handlers = before


@pytest.fixture
def events(attached):
    """All events of LlamaIndex's instrumentation."""
    return attached(Ears())


@dataclass
class Team:
    """Two candidates, and a routed LLM that asks the large one about long questions."""

    small: ScriptedLLM = field(default_factory=lambda: ScriptedLLM(model="small"))
    large: ScriptedLLM = field(default_factory=lambda: ScriptedLLM(model="large"))

    def routed(self, **kwargs):
        given = {"llms": {"small": self.small, "large": self.large}, "router": by_length} | kwargs
        return RoutedLLM(**given)

    @property
    def asked(self):
        return {"small": len(self.small.calls), "large": len(self.large.calls)}


def by_length(query):
    return "small" if len(query.text) < 20 else "large"


@pytest.fixture
def team():
    return Team()


@pytest.fixture
def add_tool():
    return ADD


@pytest.fixture
def pair():
    return Pair


@pytest.fixture(scope="module", autouse=True)
def collected():
    """The providers' asynchronous clients leave their connections open when their loop ends: not for a later test to pay for."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
