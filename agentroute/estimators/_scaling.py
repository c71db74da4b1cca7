"""Embeddings brought to one scale, so that a penalty means the same whoever made them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Scaling"]

Floats = npt.NDArray[np.float64]


class Scaling:
    """Centres embeddings and gives them the mean squared length 1, and takes that back into the weights."""

    def __init__(self, x: Floats) -> None:
        self.centre = x.mean(axis=0)
        length = float(np.sqrt(((x - self.centre) ** 2).sum(axis=1).mean()))
        self.length = length if length > 1e-9 else 1.0  # all embeddings are the same one

    def of(self, x: Floats) -> Floats:
        found: Floats = (x - self.centre) / self.length
        return found

    def unscaled(self, weights: Floats, bias: Any) -> tuple[Floats, Any]:
        """Weights [..., d] and bias [...] for embeddings as they are."""
        return weights / self.length, bias - weights @ self.centre / self.length
