"""A saved router, or a cascade, on disk: JSON, NumPy arrays and a FAISS cache under a manifest of hashes.

```text
folder/
├── manifest.json   format, version, writer, and size and SHA-256 of every other file; carries a digest of itself
├── router.json    pool, policy, estimator options, query ids and labels; cascade.json of a cascade, team.json of an allocator
├── arrays.npz      vectors, outcomes (stored, not compressed; no Python objects)
└── graph.faiss     HNSW graph, a cache: rebuilt when the FAISS version differs
```

Everything is read once into memory and checked there before any of it is parsed. The hashes find damage; they do not find a
forger who writes a new manifest, so that a router from a stranger deserves the trust that its author does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ArtefactError

__all__ = ["Kind", "read_artefact", "write_artefact"]

Kind: TypeAlias = Literal["router", "cascade", "team"]

_FORMATS = {"router": "agentroute-router", "cascade": "agentroute-cascade", "team": "agentroute-team"}
_LOADERS = {"router": "Router.load", "cascade": "CascadeRouter.load", "team": "RoleAllocator.load"}
_VERSION = 1
_MANIFEST = "manifest.json"
_ARRAYS = "arrays.npz"
_FILES = frozenset({"router.json", "cascade.json", "team.json", _ARRAYS, "graph.faiss"})
_GRAPH = "graph"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({key: value for key, value in manifest.items() if key != "digest"})).hexdigest()


def write_artefact(
    folder: str | Path, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], *, kind: Kind = "router"
) -> None:
    """Writes a folder that `read_artefact` reads; an older artefact there is replaced as a whole.

    Args:
        folder: Where to; made when missing. A folder that holds anything but an artefact is refused.
        config: A JSON object.
        arrays: Named arrays without Python objects; `"graph"` (uint8) goes into the FAISS cache.
        kind: What it is.

    Raises:
        ArtefactError: The folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not _replaceable(folder):
        raise ArtefactError(folder, f"this exists and is not a saved {kind}; choose another folder")
    packed = io.BytesIO()
    np.savez(packed, **{name: array for name, array in arrays.items() if name != _GRAPH})  # type: ignore[arg-type]  # numpy's stub mistakes ** for allow_pickle
    files = {f"{kind}.json": _canonical(config), _ARRAYS: packed.getvalue()}
    if _GRAPH in arrays:
        files["graph.faiss"] = arrays[_GRAPH].tobytes()
    manifest: dict[str, Any] = {
        "format": _FORMATS[kind],
        "version": _VERSION,
        "written_by": f"agentroute-sdk {metadata.version('agentroute-sdk')}",
        "faiss": metadata.version("faiss-cpu"),
        "files": {name: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()},
    }
    manifest["digest"] = _digest(manifest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, body in (*files.items(), (_MANIFEST, _canonical(manifest))):
            with (fresh / name).open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        fresh.chmod(0o755)
        if folder.exists():
            # Two renames: a reader in between finds no folder, never a mixture of two.
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / "router")
            try:
                fresh.rename(folder)
            except OSError:
                (old / "router").rename(folder)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    """Whether a path is an empty folder or holds a router of ours and nothing else: whatever is there will be deleted."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    present = {path.name for path in folder.iterdir()}
    if not present:
        return True
    try:
        known = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return present <= _FILES | {_MANIFEST} and isinstance(known, dict) and known.get("format") in _FORMATS.values()


def read_artefact(folder: str | Path, *, kind: Kind = "router") -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Reads what `write_artefact` wrote.

    Raises:
        ArtefactError: Anything is missing, changed, foreign, from a later version, or more than there should be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = f"is a file, not the folder of a saved {kind}" if folder.exists() else f"no such folder; save a {kind} there first"
        raise ArtefactError(folder, what)
    manifest = _manifest(folder, kind)
    listed = manifest["files"]
    present = {path.name for path in folder.iterdir()} - {_MANIFEST}
    if present != set(listed) or not {f"{kind}.json", _ARRAYS} <= present <= _FILES:
        raise ArtefactError(folder, f"holds {sorted(present)} where the manifest lists {sorted(listed)}; fit and save again")
    bodies = {name: _checked(folder, name, expected) for name, expected in listed.items()}
    try:
        config = json.loads(bodies[f"{kind}.json"])
        arrays = _arrays(bodies[_ARRAYS])
    except (ValueError, KeyError, TypeError, RecursionError, OSError, zipfile.BadZipFile) as error:
        raise ArtefactError(folder, f"cannot be parsed ({error}); fit and save again") from error
    if not isinstance(config, dict):
        raise ArtefactError(folder, f"{kind}.json is not an object; fit and save again")
    if "graph.faiss" in bodies and manifest["faiss"] == metadata.version("faiss-cpu"):
        arrays[_GRAPH] = np.frombuffer(bodies["graph.faiss"], np.uint8)
    return config, arrays


def _manifest(folder: Path, kind: Kind) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        if path.is_symlink() or path.stat().st_size > 1 << 16:
            raise ArtefactError(path, "is not a manifest that agentroute wrote")
        body = path.read_bytes()
        manifest = json.loads(body)
    except FileNotFoundError:
        raise ArtefactError(folder, f"holds no manifest.json, so it is not a saved {kind}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(path, f"cannot be read ({error}); fit and save again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or found != _FORMATS[kind]:
        for other, name in _FORMATS.items():
            if found == name:
                raise ArtefactError(folder, f"holds a {other}, not a {kind}: read it with {_LOADERS[other]}")
        raise ArtefactError(path, f"is not the manifest of an agentroute {kind}")
    if manifest.get("version") != _VERSION:
        raise ArtefactError(
            path, f"has format version {manifest.get('version')!r}, this release reads {_VERSION}; upgrade or fit again"
        )
    files = manifest.get("files")
    sound = isinstance(files, dict) and all(isinstance(one, dict) and set(one) == {"size", "sha256"} for one in files.values())
    if not sound or manifest.get("digest") != _digest(manifest) or body != _canonical(manifest):
        raise ArtefactError(path, "is damaged; fit and save again")
    return manifest


def _checked(folder: Path, name: str, expected: Mapping[str, Any]) -> bytes:
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size != expected["size"]:
            raise ArtefactError(path, "is not the file that was saved; fit and save again")
        body = path.read_bytes()
    except OSError as error:
        raise ArtefactError(path, f"cannot be read ({error}); fit and save again") from error
    if hashlib.sha256(body).hexdigest() != expected["sha256"]:
        raise ArtefactError(path, "is damaged: its hash is not the one that was saved; fit and save again")
    return body


def _arrays(body: bytes) -> dict[str, npt.NDArray[Any]]:
    # Stored members only: what was read is as large as what will be made of it.
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            msg = "arrays.npz is compressed, which agentroute never writes"
            raise ValueError(msg)
    with np.load(io.BytesIO(body), allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            msg = f"array {name!r} has the type {array.dtype}"
            raise ValueError(msg)
    return arrays
