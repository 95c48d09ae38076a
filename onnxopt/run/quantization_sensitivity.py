"""Output error of each layer of the winner, quantized alone."""

from collections.abc import Sequence
from math import isfinite

import onnx_ir as ir

from onnxopt.graph.edit import freeze_weights, lift_constants, name_nodes
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.quantization.diagnosis.layers import diagnose
from onnxopt.samples import Samples
from onnxopt.target import detect

SAMPLES = 8
MOST_PARAMETER_BYTES = 500_000_000
"""Of a larger model, running every layer alone would take longer than the search."""


def sensitivities(original: ir.Model, best: ir.Model, passes: Sequence[Pass], samples: Samples) -> dict[str, float]:
    """Return the signal to noise at the outputs by layer, in dB; nothing where training or pruning came first.

    Args:
        original: the float model.
        best: the model that `passes` made of it.
        passes: the passes of the winner.
        samples: samples to run both on; a few are enough to rank layers.
    """
    at = next((i for i, spec in enumerate(passes) if spec.name.startswith("quantize")), None)
    if at is None or not all(isinstance(spec, Simplify) for spec in passes[:at]):
        return {}
    if sum(v.const_value.nbytes for v in original.graph.initializers.values() if v.const_value) > MOST_PARAMETER_BYTES:
        return {}
    model = Pipeline(tuple(passes[:at])).run(original, Context(detect())).model if at else original.clone()
    freeze_weights(model)
    lift_constants(model)
    name_nodes(model)
    losses = diagnose(model, best, samples.take(SAMPLES).with_batch_size(1))
    return {loss.name: loss.output_db for loss in losses if isfinite(loss.output_db)}
