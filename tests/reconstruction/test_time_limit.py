"""Decompositions, which take seconds on a busy host, end at a time limit."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxopt.measure.runtime.interrupt import TimeOver, cut_when
from onnxopt.reconstruction.low_rank.spectrum import Spectrum

MATRIX = np.eye(4)


@pytest.mark.parametrize("decompose", [Spectrum.of_weight, Spectrum.of_outputs])
def test_a_decomposition_does_not_start_after_the_time_limit(decompose: Callable[[np.ndarray], Spectrum]) -> None:
    assert decompose(MATRIX).energies.tolist() == [1.0] * 4
    with cut_when(lambda: False):
        decompose(MATRIX)
    with pytest.raises(TimeOver), cut_when(lambda: True):
        decompose(MATRIX)
