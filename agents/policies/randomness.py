"""Random numbers of a batch's samples that do not depend on how many processes share the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLES = -1
"""In a shape, the length of the axis of the samples."""


class Randomness:
    """Draws for every sample of a batch by one generator, and gives the numbers of some of the samples.

    Each process of a training asks for its own samples. Since every process draws the same, a sample gets the
    numbers that one process alone would give it, and the generators of all processes stay alike.

    Args:
        generator: on the device where the numbers are wanted.
        total: samples of the whole batch.
        rows: which of them are asked for; None: all.
    """

    def __init__(self, generator: torch.Generator, total: int, rows: NDArray[np.int64] | None = None) -> None:
        self._generator, self._total = generator, total
        self._rows = None if rows is None else torch.from_numpy(rows).to(generator.device)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of this shape, where :data:`SAMPLES` stands for the number of samples."""
        return self._draw(torch.randn, shape)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers from 0 to 1, shaped as those of :meth:`normal`."""
        return self._draw(torch.rand, shape)

    def integers(self, below: int, shape: tuple[int, ...]) -> Tensor:
        """Integers from 0 to ``below - 1``, shaped as those of :meth:`normal`."""
        return self._draw(lambda size, **by: torch.randint(below, size, **by), shape)

    def _draw(self, distribution: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        whole = tuple(self._total if length == SAMPLES else length for length in shape)
        numbers = distribution(whole, generator=self._generator, device=self._generator.device)
        return numbers if self._rows is None else numbers.index_select(shape.index(SAMPLES), self._rows)
