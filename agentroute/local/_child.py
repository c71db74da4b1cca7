"""The process that holds one local model; `LocalServer` runs this file as a script. It imports nothing of agentroute.

It reads its options as one line of JSON from stdin, starts the server, and answers each further line with one line of
JSON on stdout. When stdin ends, because the parent closed it or died, it ends too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

__all__ = ["main"]


def _start(options: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["path"]
    params.model_alias = {options["model"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the system picks a free one
    params.api_keys = [options["api_key"]]
    params.n_ctx = options["context"]
    params.n_parallel = 1
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    params.use_jinja = True
    params.warmup = False
    params.ui = False
    return xllamacpp.Server(params)


def main() -> int:
    """Serves until stdin ends."""
    # The runtime writes to stdout as it likes; the parent listens on a private copy of it, and the rest goes to stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    options = json.loads(sys.stdin.readline())
    started = time.process_time()
    server = _start(options)
    replies.write(json.dumps({"address": server.listening_address}) + "\n")
    for _ in sys.stdin:
        replies.write(json.dumps({"cpu_seconds": time.process_time() - started}) + "\n")
    # Threads of the runtime may still hold a request; nobody is left to read its answer.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
