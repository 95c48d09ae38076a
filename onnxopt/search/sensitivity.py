"""Which layers suffer most from quantization, each measured alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.fidelity import fidelity
from onnxopt.measure.session import Runtime, Session
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import Samples


@dataclass(frozen=True)
class Sensitivity:
    """Signal to quantization noise at the model's outputs when this layer alone is quantized, in dB."""

    layer: str
    sqnr_db: float


def rank_layers(
    model: ir.Model,
    spec: QuantizeStatic,
    layers: Sequence[str],
    quantized: Sequence[str],
    samples: Samples,
    context: Context,
    runtime: Runtime,
    progress: Callable[[int, int], None],
) -> tuple[Sensitivity, ...]:
    """Return the sensitivity of every layer, the most harmful first.

    Args:
        model: float, with the node names that `layers` uses.
        spec: the quantization; its own exclusions do not count here.
        layers: names of the nodes to rank.
        quantized: names of all nodes that `spec` quantizes.
        samples: to compare outputs on; labels are not used.
        context: of the search; its cache spares calibrating again.
        runtime: how to run.
        progress: called with how many layers are done and how many there are.
    """
    baseline = Session(model, runtime)
    found = []
    for number, layer in enumerate(layers):
        others = tuple(other for other in quantized if other != layer)
        alone = replace(spec, placement="all", least_db=0, exclude=others)
        progress(number, len(layers))
        try:
            built = Pipeline((alone,)).run(model, context).model
            outputs = fidelity(baseline, built, samples, runtime).outputs
        except (ModelError, NativeError):
            # A layer that cannot even be quantized alone is the first to be left in float.
            found.append(Sensitivity(layer, float("-inf")))
            continue
        found.append(Sensitivity(layer, min((o.sqnr_db for o in outputs), default=float("inf"))))
    progress(len(layers), len(layers))
    return tuple(sorted(found, key=lambda s: s.sqnr_db))
