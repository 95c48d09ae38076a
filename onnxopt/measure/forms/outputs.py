"""Comparison of a deployment's outputs with those of the default."""

from collections.abc import Callable, Sequence
from typing import Any

from onnxopt.measure.equivalence import difference
from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.runtime.session import Session
from onnxopt.samples import Feeds

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that another order of additions makes in float32."""


def comparison(default: Deployment, batches: Sequence[Feeds]) -> Callable[[Deployment], float]:
    """Return a comparison with `default` on `batches`: the largest relative difference, 0 if equal in bits.

    Without batches nothing is known, and the difference is infinite.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
    """
    expected = _outputs(default, batches)

    def compared(deployment: Deployment) -> float:
        found = _outputs(deployment, batches)
        return max((difference(a, b) for a, b in zip(expected, found, strict=True)), default=float("inf"))

    return compared


def _outputs(deployment: Deployment, batches: Sequence[Feeds]) -> list[Any]:
    session = Session(deployment.file, deployment.runtime)
    return [output for feeds in batches for output in session.run(feeds)]
