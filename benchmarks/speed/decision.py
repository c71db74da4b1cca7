"""Time of one decision and of a batch, embedding excluded, beside the bare FAISS search on the same vectors in the same run.

    python benchmarks/speed/decision.py [ROWS ...]

Eight models, 256 dimensions, clustered random vectors, the policy weighing quality, cost and latency. `bare` is the packaged
FAISS's `IndexFlatIP.search` for the same k, with its default threads and with one thread. Batches are of 256 queries, k = 32.
"""

from __future__ import annotations

import sys
import time

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.embedders import CallableEmbedder
from agentroute.estimators import KNNEstimator
from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.types import Query

DIMENSION, MODELS, BATCH, BATCH_K = 256, 8, 256, 32


def p50(call, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, DIMENSION))
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), DIMENSION)), name="none", revision="1", dimension=DIMENSION)
    view = Table("rows", "k", "decision p50 ms", "bare ms", "bare, 1 thread ms", "ratio", "ratio, 1 thread", "recall@k",
                 "batch ms", "FAISS batch ms", "batch speed-up", "fit s", title="Decision time, embedding excluded")  # fmt: skip
    for rows in sizes:
        kind = rng.integers(0, 200, rows)
        vectors = unit(centres[kind] + 0.8 * rng.standard_normal((rows, DIMENSION)))
        asked = unit(centres[rng.integers(0, 200, BATCH)] + 0.8 * rng.standard_normal((BATCH, DIMENSION)))
        taste = rng.random((200, MODELS))
        table = OutcomeTable(
            queries=tuple(Query(text="", id=str(i)) for i in range(rows)),
            models=tuple(f"m{j}" for j in range(MODELS)),
            quality=np.clip(taste[kind] + 0.2 * rng.standard_normal((rows, MODELS)), 0, 1),
            cost=rng.random((rows, MODELS)),
            latency=rng.random((rows, MODELS)),
            embeddings=vectors,
            fingerprint=embedder.fingerprint,
        )
        start = time.perf_counter()
        policy = UtilityPolicy(willingness_to_pay=5.0, latency_weight=0.01)
        estimator = KNNEstimator()
        router = Router(table.models, embedder=embedder, estimator=estimator, policy=policy).fit(table)
        fit = time.perf_counter() - start
        queries = [Query(text="x", embedding=vector, fingerprint=embedder.fingerprint) for vector in asked]
        k, flat = estimator.kernel_.k, faiss.IndexFlatIP(DIMENSION)
        flat.add(vectors)
        turn = iter(range(10**9))
        repeats = 400 if rows <= 10_000 else 100

        def one() -> np.ndarray:
            at = next(turn) % BATCH  # noqa: B023 # called before the loop goes on
            return asked[at : at + 1]  # noqa: B023

        decision = p50(lambda: router.route(queries[next(turn) % BATCH]), repeats)  # noqa: B023
        bare = p50(lambda: flat.search(one(), k), repeats)  # noqa: B023
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        bare_one = p50(lambda: flat.search(one(), k), repeats)  # noqa: B023
        faiss.omp_set_num_threads(threads)
        truth = flat.search(asked, k)[1]
        index = estimator._learned.index  # noqa: SLF001 # recall is the index's, not the estimator's
        found = [index.search(asked[i : i + 1], k)[1][0] for i in range(BATCH)]
        recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / k for a, b in zip(found, truth, strict=True)])
        batch = p50(lambda: index.search(asked, BATCH_K), 15)  # noqa: B023
        faiss_batch = p50(lambda: flat.search(asked, BATCH_K), 9)  # noqa: B023
        view.add_row(f"{rows:,}", str(k), f"{decision:.3f}", f"{bare:.3f}", f"{bare_one:.3f}", f"{decision / bare:.2f}",
                     f"{decision / bare_one:.2f}", f"{recall:.4f}", f"{batch:.1f}", f"{faiss_batch:.1f}",
                     f"{faiss_batch / batch:.1f}x", f"{fit:.1f}")  # fmt: skip
    Console(width=170).print(view)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or [1_000, 10_000, 100_000])
