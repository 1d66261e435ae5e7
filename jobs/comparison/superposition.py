"""Optimal superposition of two sets of points: the rotation and translation that make their root mean square distance least.

W. Kabsch, Acta Crystallographica A32 (1976) 922 and A34 (1978) 827, by singular value decomposition. Only proper rotations: a mirror image
is another molecule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 3), in any one unit, all finite and of at most 1e6 or so."""


def superposed(one: Points, other: Points) -> tuple[Points, Points]:
    """Both sets with their centres at the origin, the first turned onto the second: (n, 3) each.

    Where more than one rotation is best (fewer than three points, points on a line, mirror images of some shapes), it is one of them, and
    with the sets exchanged not always its inverse.
    """
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    left, _, right = np.linalg.svd(one.T @ other)
    left[:, -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    return one @ left @ right, other
