"""Real language models on this machine's processor: a manifest with hashes, a resolver and a server (extra `local`)."""

from __future__ import annotations

from agentroute.local._manifest import DataPackage, DataWheel, HubFile, LocalModel, local_model, local_models, read_manifest
from agentroute.local._resolve import MODELS_VARIABLE, ModelUnavailableError, Progress, cache_folder, resolve
from agentroute.local._server import LocalServer, LocalServerError

__all__ = [
    "MODELS_VARIABLE",
    "DataPackage",
    "DataWheel",
    "HubFile",
    "LocalModel",
    "LocalServer",
    "LocalServerError",
    "ModelUnavailableError",
    "Progress",
    "cache_folder",
    "local_model",
    "local_models",
    "read_manifest",
    "resolve",
]
