"""Time the pairing of demonstrations: ``python benchmarks/dtw.py [--sources 1000 --targets 25]``."""

from __future__ import annotations

import argparse
import time

import numpy as np

from simreal_datasets.loading.pairing import pair


def random_paths(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Smooth random paths of 100 to 250 frames, metres."""
    return [np.cumsum(rng.normal(0, 0.01, (rng.integers(100, 251), 3)), axis=0) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, nargs="*", default=[200, 1000])
    parser.add_argument("--targets", type=int, nargs="*", default=[10, 25])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    pair(random_paths(1, rng), random_paths(1, rng))
    print(f"compile or load from numba's cache: {time.perf_counter() - started:.2f} s")
    for num_source, num_target in zip(arguments.sources, arguments.targets, strict=True):
        source, target = random_paths(num_source, rng), random_paths(num_target, rng)
        started = time.perf_counter()
        pair(source, target)
        print(f"{num_source} x {num_target} demonstrations: {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
