"""Weights by their magnitude and that of their inputs: Sun et al., "Wanda", ICLR 2024."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt import importance
from onnxopt.graph.weights.sparsity import Axes, Weight
from onnxopt.graph.weights.units import lowest_per_output
from onnxopt.measure.input_norms import input_norms
from onnxopt.samples import Samples

_SAMPLES = 128
"""As many as in the paper."""


@dataclass(frozen=True)
class Wanda:
    """Scores by observed activations.

    Attributes:
        norms: the norms of the inputs of each weight, by name, see `input_norms`.
        refused: reasons why a weight has none, by name.
    """

    norms: Mapping[str, np.ndarray]
    refused: Mapping[str, str]

    @classmethod
    def observe(cls, model: ir.Model, weights: Sequence[Weight], samples: Samples) -> "Wanda":
        """Run the model on the first samples; raises as `input_norms`."""
        return cls(*input_norms(model, weights, samples.take(_SAMPLES)))

    def scores(self, name: str, array: np.ndarray, axes: Axes) -> np.ndarray:
        """Return a score per element of a weight."""
        norms = self.norms[name]
        if norms.ndim == 1:
            assert axes.inputs is not None
            return importance.wanda(array, norms, axes.inputs)
        # Of a convolution: one matrix per group, on its unfolded inputs.
        matrices = zip(array.reshape(len(norms), -1, norms.shape[1]), norms, strict=True)
        return np.stack([importance.wanda(matrix, of_group, 1) for matrix, of_group in matrices]).reshape(array.shape)

    def lowest_per_output(self, name: str, scores: np.ndarray, axes: Axes, count: int) -> np.ndarray:
        """Return which `count` elements to remove, as many of each output: its weights are compared with each other."""
        assert axes.inputs is not None
        convolution = self.norms[name].ndim > 1
        return lowest_per_output(scores, tuple(range(1, scores.ndim)) if convolution else (axes.inputs,), count)
