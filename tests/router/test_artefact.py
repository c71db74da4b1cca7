import hashlib
import io
import json
import os
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ArtefactError, ConfigError, EmbedderMismatchError
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.policies import BudgetPolicy, UtilityPolicy
from agentroute.router import Router, read_artefact, write_artefact
from agentroute.router._artefact import _canonical, _digest
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import ModelCard, Price, Query

EMBEDDER = HashEmbedder()
POOL = [
    ModelCard(id="m0", price=Price(input=0.1, output=0.2, cache_read=0.01), context_window=4096, tags={"region": "eu"}),
    ModelCard(id="m1", capabilities={"tools", "image"}, provider="someone", max_output_tokens=100),
    ModelCard(id="m2", capabilities=(), description="the large one"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A router with an HNSW graph, and the folder it was saved in."""
    folder = tmp_path_factory.mktemp("saved") / "router"
    router = Router(POOL, embedder=EMBEDDER, estimator=KNNEstimator(approximate_from=500), default="m1").fit(planted_table(800))
    router.save(folder)
    return router, folder


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved[1], tmp_path / "router")
    return tmp_path / "router"


def load(folder):
    return Router.load(folder, embedder=EMBEDDER)


def rehash(folder):
    """What a forger does: makes the manifest agree with the changed files."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in manifest["files"]:
        body = (folder / name).read_bytes()
        manifest["files"][name] = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    manifest["digest"] = _digest(manifest)
    (folder / "manifest.json").write_bytes(_canonical(manifest))


def test_decisions_survive_saving(saved):
    router, folder = saved
    again = load(folder)
    rng = np.random.default_rng(0)
    queries = []
    for i in range(10_000):
        k = int(rng.integers(0, 3))
        text = f"kind{k} word{k} w{rng.integers(0, 9999)} v{rng.integers(0, 99)}"
        queries.append(Query(text=text, task=f"kind{k}" if i % 3 else None))
    queries = [router.embed(query) for query in queries]
    policy = UtilityPolicy(willingness_to_pay=0.02)
    for one, other in (
        (router.route_many(queries), again.route_many(queries)),
        (router.route_many(queries, policy=policy), again.route_many(queries, policy=policy)),
        ([router.route(q) for q in queries[:1500]], [again.route(q) for q in queries[:1500]]),
    ):
        assert [(d.model, d.by, d.candidates) for d in one] == [(d.model, d.by, d.candidates) for d in other]
    assert list(again.pool) == list(router.pool)
    assert (again.default, again.fitted) == ("m1", True)


@pytest.mark.parametrize("policy", [BudgetPolicy(mean_cost=0.004), UtilityPolicy(latency_weight=0.1)], ids=repr)
@pytest.mark.parametrize("estimator", [MeanEstimator, KNNEstimator])
def test_every_kind_comes_back(tmp_path, policy, estimator):
    table = planted_table(200)
    router = Router(POOL, embedder=EMBEDDER, estimator=estimator(), policy=policy).fit(table)
    router.save(tmp_path / "r")
    again = load(tmp_path / "r")
    queries = [Query(text=q.text) for q in table.queries]
    assert [d.candidates for d in again.route_many(queries)] == [d.candidates for d in router.route_many(queries)]
    assert repr(again) == repr(router)


def test_saving_again_replaces_and_leaves_nothing_behind(saved, copy):
    saved[0].save(copy)
    load(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["router"]
    assert sorted(path.name for path in copy.iterdir()) == ["arrays.npz", "graph.faiss", "manifest.json", "router.json"]


def test_a_folder_with_other_things_is_not_overwritten(saved, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtefactError, match="not a saved router"):
        saved[0].save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("manifest", ["{}", "not json", None])
def test_a_folder_that_looks_like_ours_is_not_overwritten(saved, copy, manifest):
    if manifest is None:
        (copy / "notes.txt").write_text("mine")
    else:
        (copy / "manifest.json").write_text(manifest)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(ArtefactError, match="not a saved router"):
        saved[0].save(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_no_prompt_text_on_disk_unless_kept(tmp_path):
    table = planted_table(100)
    secret = replace(table, queries=(replace(table.queries[0], text="the zanzibar secret"), *table.queries[1:]))
    for keep in (False, True):
        folder = tmp_path / str(keep)
        Router(POOL, embedder=EMBEDDER, estimator=KNNEstimator(keep_prompts=keep)).fit(secret).save(folder)
        assert (b"zanzibar" in b"".join(file.read_bytes() for file in folder.iterdir())) is keep


def test_another_embedder_is_refused(saved):
    with pytest.raises(EmbedderMismatchError, match="32-d"):
        Router.load(saved[1], embedder=HashEmbedder(dimension=16))
    with pytest.raises(EmbedderMismatchError):
        Router.load(saved[1])


def damage(folder, rng):
    """One random damage; returns what it was."""
    name = str(rng.choice(["arrays.npz", "graph.faiss", "router.json", "manifest.json"]))
    body = bytearray((folder / name).read_bytes())
    kind = str(rng.choice(["flip", "truncate", "append", "zero", "remove", "swap"]))
    at = int(rng.integers(0, len(body)))
    if kind == "flip":
        body[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == "truncate":
        del body[at:]
    elif kind == "append":
        body += b"\0" * int(rng.integers(1, 9))
    elif kind == "zero":
        end = min(at + 64, len(body))
        if not any(body[at:end]):
            body[at] = 1
        else:
            body[at:end] = bytes(end - at)
    elif kind == "remove":
        (folder / name).unlink()
        return kind, name
    elif kind == "swap":
        other = "router.json" if name != "router.json" else "arrays.npz"
        body = bytearray((folder / other).read_bytes())
    (folder / name).write_bytes(body)
    return kind, name


def test_two_hundred_damages_are_all_refused(saved, tmp_path):
    rng = np.random.default_rng(7)
    accepted = []
    for case in range(200):
        folder = tmp_path / str(case)
        shutil.copytree(saved[1], folder)
        done = damage(folder, rng)
        try:
            load(folder)
        except ArtefactError as error:
            assert str(folder) in str(error)  # noqa: PT017 # the message names the place
        else:
            accepted.append(done)
        shutil.rmtree(folder)
    assert accepted == []


def test_a_smuggled_pickle_is_refused_even_with_right_hashes(copy, tmp_path):
    witness = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    packed = io.BytesIO()
    np.savez(packed, vectors=np.array([Payload()], object), values=np.zeros((1, 9)), residual_std=np.zeros(3))
    (copy / "arrays.npz").write_bytes(packed.getvalue())
    rehash(copy)
    with pytest.raises(ArtefactError):
        load(copy)
    assert not witness.exists()


def with_arrays(folder, **changed):
    with np.load(folder / "arrays.npz") as packed:
        arrays = {name: packed[name] for name in packed.files}
    np.savez(folder / "arrays.npz", **(arrays | changed))
    rehash(folder)


def with_config(folder, change):
    config = json.loads((folder / "router.json").read_bytes())
    change(config)
    (folder / "router.json").write_bytes(_canonical(config))
    rehash(folder)


FORGERIES = {
    "dimension": lambda f: with_arrays(f, vectors=np.zeros((800, 31), np.float32)),
    "rows": lambda f: with_arrays(f, vectors=np.zeros((799, 32), np.float32)),
    "precision": lambda f: with_arrays(f, vectors=np.zeros((800, 32))),
    "not finite": lambda f: with_arrays(f, vectors=np.full((800, 32), np.nan, np.float32)),
    "values": lambda f: with_arrays(f, values=np.zeros((800, 4))),
    "text array": lambda f: with_arrays(f, residual_std=np.array(["a", "b", "c"])),
    "unknown estimator": lambda f: with_config(f, lambda c: c["estimator"].update(kind="os.system")),
    "unknown policy": lambda f: with_config(f, lambda c: c["policy"].update(kind="evil")),
    "no pool": lambda f: with_config(f, lambda c: c.update(pool=[])),
    "foreign default": lambda f: with_config(f, lambda c: c.update(default="elsewhere")),
    "missing key": lambda f: with_config(f, lambda c: c.pop("best")),
    "kernel of nonsense": lambda f: with_config(f, lambda c: c["estimator"].update(kernels="x")),
    "negative price": lambda f: with_config(f, lambda c: c["pool"][0]["price"].update(input=-1)),
    "a list": lambda f: ((f / "router.json").write_bytes(b"[]\n"), rehash(f)),
    "deep": lambda f: ((f / "router.json").write_bytes(b"[" * 100_000), rehash(f)),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_forgeries_that_make_no_sense_are_refused(copy, forge):
    forge(copy)
    with pytest.raises(ArtefactError):
        load(copy)


def test_a_zip_bomb_is_refused_before_it_unfolds(copy):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.save(header, np.zeros(0, np.float32))
        archive.writestr("vectors.npy", header.getvalue() + b"\0" * 50_000_000)
    (copy / "arrays.npz").write_bytes(packed.getvalue())
    rehash(copy)
    with pytest.raises(ArtefactError, match="compressed"):
        load(copy)


def test_foreign_folders_and_extra_files_are_refused(saved, copy, tmp_path):
    with pytest.raises(ArtefactError, match="no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        load(tmp_path / "empty")
    (copy / "extra.py").write_text("1")
    with pytest.raises(ArtefactError, match=r"extra\.py"):
        load(copy)
    (copy / "extra.py").unlink()
    target = tmp_path / "arrays.npz"
    shutil.move(copy / "arrays.npz", target)
    (copy / "arrays.npz").symlink_to(target)
    with pytest.raises(ArtefactError, match="not the file"):
        load(copy)


def test_a_later_version_says_upgrade(copy):
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["version"] = 2
    manifest["digest"] = _digest(manifest)
    (copy / "manifest.json").write_bytes(_canonical(manifest))
    with pytest.raises(ArtefactError, match="upgrade"):
        load(copy)


def test_a_cache_of_another_faiss_is_rebuilt(saved, copy):
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["faiss"] = "0.0.1"
    manifest["digest"] = _digest(manifest)
    (copy / "manifest.json").write_bytes(_canonical(manifest))
    again, queries = load(copy), [Query(text=q.text) for q in planted_table(50, seed=4).queries]
    assert [again.route(q).candidates for q in queries] == [saved[0].route(q).candidates for q in queries]


def test_own_estimators_are_not_saved_under_false_names(tmp_path):
    class Mine(MeanEstimator):
        pass

    router = Router(["m0", "m1", "m2"], estimator=Mine()).fit(planted_table(60))
    with pytest.raises(ConfigError, match="Mine"):
        router.save(tmp_path / "r")


def test_a_cascade_is_no_router_and_the_message_says_how_to_read_it(tmp_path):
    arrays = {"draws": np.arange(6.0).reshape(2, 3)}
    write_artefact(tmp_path / "both", {"step": 1}, arrays, kind="cascade")
    config, found = read_artefact(tmp_path / "both", kind="cascade")
    assert config == {"step": 1}
    np.testing.assert_array_equal(found["draws"], arrays["draws"])
    with pytest.raises(ArtefactError, match=r"holds a cascade, not a router: read it with CascadeRouter\.load"):
        read_artefact(tmp_path / "both")


def test_a_router_is_no_cascade(saved):
    with pytest.raises(ArtefactError, match=r"holds a router, not a cascade: read it with Router\.load"):
        read_artefact(saved[1], kind="cascade")


def test_a_cascade_may_replace_a_router_and_nothing_of_it_stays(copy):
    write_artefact(copy, {}, {"a": np.zeros(1)}, kind="cascade")
    assert sorted(path.name for path in copy.iterdir()) == ["arrays.npz", "cascade.json", "manifest.json"]
