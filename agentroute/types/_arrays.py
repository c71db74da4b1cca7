"""The two kinds of array."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

__all__ = ["Matrix", "Vectors"]

Vectors: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]
"""Embeddings, float32 [n, d], rows of length 1 (or 0 for a text without any known token)."""
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""float64 [n_queries, n_models]; NaN = not observed or not known."""
