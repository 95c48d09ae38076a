"""A QDQ graph that learns: float masters behind every integer weight, rounded in each run as the file will hold them.

Sources: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018; Bengio et al., 2013, for the gradient past the rounding; Esser et al., "Learned step size quantization", ICLR
2020, for scales, here learned by their logarithm so that a step is a share of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from onnxopt.graph.weights.quantized import QuantizedWeight, in_floats, in_integers, quantized_weights
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.write_back import write_back
from onnxopt.training.ops.convert import to_array, to_tensor


class FakeQuantized(TorchModel):
    """A quantized model as a torch module, with straight-through gradients of the rounding.

    Args:
        model: a model with QuantizeLinear and DequantizeLinear, as static quantization writes it.
        masters: float weights by the names of the integers; weights without an entry start from the integers.
        learn_scales: whether the scales of weights and activations are learned.
        outputs: the outputs to compute, as in `TorchModel`.
    """

    def __init__(
        self,
        model: ir.Model,
        masters: Mapping[str, np.ndarray],
        *,
        learn_scales: bool = False,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self.quantized = quantized_weights(model)
        super().__init__(in_floats(model, self.quantized, masters), outputs=outputs)
        self.by_key = {key: w for w in self.quantized for key, name in self.names.items() if name == w.value}
        initializers = model.graph.initializers
        scales = {w.scale: None for w in self.quantized if not w.factors}
        live = {w.scale for w in self.by_key.values()}
        self._scales = nn.Module()
        self.logs = nn.Module()
        self.scale_keys: dict[str, str] = {}
        activations = dict[str, ir.Value]()
        for node in self._nodes:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not node.domain:
                scale = node.inputs[1]
                if scale is not None and scale.name in self._model.graph.initializers:
                    activations[scale.name or ""] = scale
        for name in dict.fromkeys((*(n for n in scales if n in live), *(b.scale for b in self.by_key.values()))):
            self._add_scale(name, initializers[name], learn_scales and name in scales)
        for name, value in activations.items():
            self._add_scale(name, value, learn_scales)
            self._keys[value] = self.scale_keys[name]

    def _add_scale(self, name: str, value: ir.Value, learned: bool) -> None:
        if name in self.scale_keys or value.const_value is None:
            return
        key = "scale/" + name.replace(".", "/")
        while key in self.scale_keys.values():
            key += "_"
        self.scale_keys[name] = key
        base = to_tensor(value.const_value.numpy())
        self._scales.register_buffer(key, base)
        if learned:
            self.logs.register_parameter(key, nn.Parameter(torch.zeros_like(base)))

    def scale(self, name: str) -> Tensor:
        """Return a scale as it is now."""
        key = self.scale_keys[name]
        base, log = self._scales._buffers[key], self.logs._parameters.get(key)
        return base if log is None else base * log.exp()

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights as the file will hold them, by key; gradients pass straight to the masters."""
        found = super().tensors()
        for key, weight in self.by_key.items():
            if not weight.factors and weight.largest.ndim:
                found[key] = _rounded(found[key], weight, self.scale(weight.scale).reshape(weight.shape))
        return found | {key: self.scale(name) for name, key in self.scale_keys.items()}

    def learned_scales(self) -> dict[str, np.ndarray]:
        """Return the scales that were learned, by name."""
        return {n: to_array(self.scale(n)) for n, key in self.scale_keys.items() if key in self.logs._parameters}


def _rounded(master: Tensor, weight: QuantizedWeight, scale: Tensor) -> Tensor:
    steps = master / scale
    largest = torch.as_tensor(weight.largest, dtype=steps.dtype, device=steps.device)
    smooth = torch.minimum(torch.maximum(steps, -largest), largest)
    rounded = torch.minimum(torch.maximum(steps.round(), -largest), largest)
    return (smooth + (rounded - smooth).detach()) * scale


def write_integers(model: ir.Model, module: FakeQuantized) -> ir.Model:
    """Return a copy of the quantized `model`, which `module` was made from, with the weights of `module`."""
    floats = {name: to_array(tensor) for name, tensor in module.named_weights()}
    integers = {w.value for w in module.quantized}
    learned = in_integers(
        model, module.quantized, {n: a for n, a in floats.items() if n in integers}, module.learned_scales()
    )
    return write_back(learned, module)
