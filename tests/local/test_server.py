"""A real model in a process of its own."""

import os
import select
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from agentroute.collection import ChatEndpoint
from agentroute.errors import UnknownModelError
from agentroute.local import LocalServer, LocalServerError, ModelUnavailableError, resolve

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def model():
    """The smallest real model, fetched when absent. Where it cannot be had, CI fails and others skip."""
    try:
        resolve("smollm2-135m")
    except ModelUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return "smollm2-135m"


def test_a_file_that_is_no_model_is_a_clear_error(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(LocalServerError, match="server of 'broken' has ended"):
        LocalServer(tmp_path / "broken.gguf").start()
    with pytest.raises(LocalServerError, match="no model file"):
        LocalServer(tmp_path / "absent.gguf").start()
    with pytest.raises(UnknownModelError):
        LocalServer("gpt-2").start()


def test_a_server_that_does_not_run_says_so(tmp_path):
    server = LocalServer(tmp_path / "x.gguf")
    with pytest.raises(LocalServerError, match="not running"):
        server.cpu_seconds()
    server.close()


@pytest.mark.local
def test_a_real_model_answers_counts_its_time_and_asks_for_its_key(model):
    with LocalServer(model) as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.api_key not in repr(server)
        options = {"logprobs": True, "cache_prompt": False}
        endpoint = ChatEndpoint(
            server.base_url, server.model, api_key=server.api_key, options=options, cpu_seconds=server.cpu_seconds
        )
        answer = endpoint.answer("What is the capital of Peru? Answer with only the city name.", 24)
        again = endpoint.answer("What is the capital of Peru? Answer with only the city name.", 24)
        assert "Lima" in answer.text
        assert answer.text == again.text
        assert answer.usage.input_tokens > 10
        assert 0 < answer.usage.output_tokens <= 24
        assert answer.cpu_seconds > 0
        assert answer.logprob < 0
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.base_url}/models", timeout=10)
        assert caught.value.code == 401
        caught.value.close()
    assert server.base_url == ""


@pytest.mark.local
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waiting for a process that is no child needs Linux")
def test_the_model_process_ends_with_its_parent(model):
    """The parent is killed without a chance to tidy up; its end of the pipe closes, and the child sees that."""
    script = (
        "from agentroute.local import LocalServer\n"
        f"server = LocalServer({model!r}).start()\n"
        "print(server._process.pid, flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
        descriptor = os.pidfd_open(child)
        try:
            assert select.select([descriptor], [], [], 10)[0], "the model's process outlived its parent"
        finally:
            os.close(descriptor)
