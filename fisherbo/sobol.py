"""Scrambled Sobol points, the same as those of `scipy.stats.qmc.Sobol`.

Importing `scipy.stats` for it took 1.2 of the 3 CPU seconds of `fisherbo ask`, and as much before
the first suggestion of any study. The direction numbers of the first dimensions are therefore kept
here; in more dimensions SciPy draws the points.

References:
    Joe and Kuo, Constructing Sobol sequences with better two-dimensional projections, 2008.
    Matoušek, On the L2-discrepancy for anchored boxes, 1998 (the scrambling).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherbo.errors import InvalidInputError

_BITS = 30
# For every dimension after the first its primitive polynomial, as bits, and first direction numbers
_JOE_KUO = """
    3 1, 7 1 3, 11 1 3 1, 13 1 1 1, 19 1 1 3 3, 25 1 3 5 13, 37 1 1 5 5 17, 41 1 1 5 5 5,
    47 1 1 7 11 19, 55 1 1 5 1 1, 59 1 1 1 3 11, 61 1 3 5 5 31, 67 1 3 3 9 7 49,
    91 1 1 1 15 21 21, 97 1 3 1 13 27 49, 103 1 1 1 15 7 5, 109 1 3 1 15 13 25,
    115 1 1 5 5 19 61, 131 1 3 7 11 23 15 103, 137 1 3 7 13 13 15 69, 143 1 1 3 13 7 35 63,
    145 1 3 5 9 1 25 53, 157 1 3 1 13 9 35 107, 167 1 3 1 5 27 61 31, 171 1 1 5 11 19 41 61,
    185 1 3 5 3 3 13 69, 191 1 1 7 13 1 19 1, 193 1 3 7 5 13 19 59, 203 1 1 3 9 25 29 41,
    211 1 3 5 13 23 1 55, 213 1 3 7 3 13 59 17, 229 1 3 1 3 5 53 69, 239 1 1 5 5 23 33 13,
    241 1 1 7 7 1 61 123, 247 1 1 7 9 13 61 49, 253 1 3 3 5 3 55 33, 285 1 3 1 15 31 13 49 245,
    299 1 3 5 15 31 59 63 97, 301 1 3 1 11 11 11 77 249, 333 1 3 1 11 27 43 71 9,
    351 1 1 7 15 21 11 81 45, 355 1 3 7 3 25 31 65 79, 357 1 3 1 1 19 11 3 205,
    361 1 1 5 9 19 21 29 157, 369 1 3 7 11 1 33 89 185, 391 1 3 3 3 15 9 79 71,
    397 1 3 7 11 15 39 119 27, 425 1 1 3 1 11 31 97 225, 451 1 1 1 3 23 43 57 177,
    463 1 3 7 7 17 17 37 71, 487 1 3 1 5 27 63 123 213, 501 1 1 3 5 11 43 53 133
"""
_KNOWN = [[int(number) for number in row.split()] for row in _JOE_KUO.split(",")]
MOST_DIMENSIONS = len(_KNOWN) + 1


def sobol(
    dimension: int, count: int, seed: int | np.random.Generator, first: int = 0
) -> NDArray[np.float64]:
    """Points of a Sobol sequence scrambled by the seed, in [0, 1), shape ``(count, dimension)``.

    Args:
        dimension: Number of coordinates.
        count: Number of points.
        seed: Of the scrambling, by a random matrix and a digital shift; a generator spawns one.
        first: Index of the first point in the sequence.

    Raises:
        InvalidInputError: The sequence of 2^30 points ends before the last one.
    """
    if first + count > 1 << _BITS:
        raise InvalidInputError(
            f"Sobol points must be among the first 2^{_BITS}, got {count} after {first}"
        )
    if dimension > MOST_DIMENSIONS:
        from scipy.stats.qmc import Sobol  # slow to import

        engine = Sobol(dimension, rng=seed)
        return np.asarray((engine.fast_forward(first) if first else engine).random(count))
    (rng,) = np.random.default_rng(seed).spawn(1)  # as SciPy does
    size = (dimension, _BITS)
    shift = rng.integers(2, size=size, dtype=np.uint32) @ (1 << np.arange(_BITS, dtype=np.uint32))
    matrix = np.tril(rng.integers(2, size=(*size, _BITS), dtype=np.uint32), -1)
    matrix += np.eye(_BITS, dtype=np.uint32)
    places = np.arange(_BITS - 1, -1, -1, dtype=np.uint32)  # of the bits, the highest first
    bits = (_directions(dimension)[:, :, None] >> places) & 1  # (d, direction, bit)
    mixed = ((bits @ matrix.transpose(0, 2, 1)) & 1) @ (np.uint32(1) << places)  # (d, direction)
    index = np.arange(first, first + count, dtype=np.uint32)
    gray = index ^ (index >> 1)
    points = np.repeat(shift[None], count, axis=0)
    for k in range(int(gray.max(initial=0)).bit_length()):
        points ^= ((gray >> k) & 1)[:, None] * mixed[:, k]
    return points / 2.0**_BITS


def _directions(dimension: int) -> NDArray[np.uint32]:
    """Direction numbers, scaled by 2^30, shape ``(dimension, 30)``."""
    rows = [[1] * _BITS]
    for polynomial, *first in _KNOWN[: dimension - 1]:
        degree, row = len(first), list(first)
        for j in range(degree, _BITS):
            number = row[j - degree]
            for k in range(1, degree + 1):
                if polynomial >> (degree - k) & 1:
                    number ^= row[j - k] << k
            row.append(number)
        rows.append(row)
    return np.array(
        [[v << (_BITS - 1 - j) for j, v in enumerate(row)] for row in rows], dtype=np.uint32
    )
