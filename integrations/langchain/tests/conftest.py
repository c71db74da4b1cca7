"""What the tests share."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from langchain_agentroute import RoutedChatModel
from langchain_agentroute.testing import ScriptedChatModel


class Recorder(BaseCallbackHandler):
    """Keeps every run: its kind, name, parent, and how it ended."""

    run_inline = True

    def __init__(self):
        self.runs = []
        self.tokens = []

    def _start(self, kind, name, run_id, parent_run_id, metadata, **more):
        run = {"kind": kind, "name": name, "id": run_id, "parent": parent_run_id, "metadata": metadata or {}, "ends": 0, **more}
        self.runs.append(run)

    def _end(self, run_id, **more):
        run = next(run for run in self.runs if run["id"] == run_id)
        run.update(more)
        run["ends"] += 1

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, metadata=None, tags=None, name=None, **_):
        self._start("chain", name, run_id, parent_run_id, metadata, inputs=inputs, tags=tags)

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, metadata=None, tags=None, **_):
        self._start("llm", (metadata or {}).get("ls_model_name"), run_id, parent_run_id, metadata, tags=tags)

    def on_chain_end(self, outputs, *, run_id, **_):
        self._end(run_id, output=outputs)

    def on_chain_error(self, error, *, run_id, **_):
        self._end(run_id, error=error)

    def on_llm_end(self, response, *, run_id, **_):
        self._end(run_id, output=response)

    def on_llm_error(self, error, *, run_id, **_):
        self._end(run_id, error=error)

    def on_llm_new_token(self, token, *, run_id, **_):
        self.tokens.append(token)

    def of(self, kind):
        return [run for run in self.runs if run["kind"] == kind]

    def tree(self):
        """(kind, name, name of the parent) of each run, in order; every run must have ended exactly once."""
        names = {run["id"]: run["name"] for run in self.runs}
        assert [run["ends"] for run in self.runs] == [1] * len(self.runs)
        return [(run["kind"], run["name"], names.get(run["parent"])) for run in self.runs]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def make_recorder():
    return Recorder


@pytest.fixture
def small():
    return ScriptedChatModel(model_name="small")


@pytest.fixture
def large():
    return ScriptedChatModel(model_name="large")


@pytest.fixture
def routed(small, large):
    """Long questions go to the large model."""
    return RoutedChatModel(
        models={"small": small, "large": large}, router=lambda query: "small" if len(query.text) < 20 else "large"
    )


@pytest.fixture
def collect():
    """Runs a chat model by a way of calling it, and gives the whole message: all ways must behave alike."""

    async def by(way, model, question, /, config=None, **kwargs):
        if way == "invoke":
            return model.invoke(question, config, **kwargs)
        if way == "ainvoke":
            return await model.ainvoke(question, config, **kwargs)
        if way == "batch":
            return model.batch([question], config, **kwargs)[0]
        if way == "abatch":
            return (await model.abatch([question], config, **kwargs))[0]
        if way == "generate":
            return (
                model.generate([[*model._convert_input(question).to_messages()]], **(config or {}), **kwargs)
                .generations[0][0]
                .message
            )
        if way == "agenerate":
            messages = [*model._convert_input(question).to_messages()]
            return (await model.agenerate([messages], **(config or {}), **kwargs)).generations[0][0].message
        if way == "v3":
            return model.stream_events(question, config, version="v3", **kwargs).output
        if way == "av3":
            return await (await model.astream_events(question, config, version="v3", **kwargs))
        if way == "stream":
            chunks = list(model.stream(question, config, **kwargs))
        else:
            chunks = [chunk async for chunk in model.astream(question, config, **kwargs)]
        return chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]

    return by
