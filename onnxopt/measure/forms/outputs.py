"""Comparison of a variant's outputs with those of the default."""

from collections.abc import Callable, Sequence
from typing import Any

from onnxopt.measure.equivalence import difference
from onnxopt.measure.forms.variant import Variant
from onnxopt.measure.runtime.session import Session
from onnxopt.samples import Feeds

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that another order of additions makes in float32."""


def comparison(default: Variant, batches: Sequence[Feeds]) -> Callable[[Variant], float]:
    """Return a comparison with `default` on `batches`: the largest relative difference, 0 if equal in bits.

    Without batches nothing is known, and the difference is infinite.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
    """
    expected = _outputs(default, batches)

    def compared(variant: Variant) -> float:
        found = _outputs(variant, batches)
        return max((difference(a, b) for a, b in zip(expected, found, strict=True)), default=float("inf"))

    return compared


def _outputs(variant: Variant, batches: Sequence[Feeds]) -> list[Any]:
    session = Session(variant.file, variant.runtime)
    return [output for feeds in batches for output in session.run(feeds)]
