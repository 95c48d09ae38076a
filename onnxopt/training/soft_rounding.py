"""Learned rounding directions of weights, trained with their block.

Source: Nagel et al., "Up or down? Adaptive rounding for post-training quantization", ICML 2020.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from onnxopt.graph.weights.quantized import in_integers
from onnxopt.training.fake_quantized import FakeQuantized
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.ops.convert import to_array
from onnxopt.training.reconstruct import Method

_LOW, _HIGH = -0.1, 1.1
"""A sigmoid is stretched to these ends, so that it comes to 0 and 1."""
_SHARE = 0.05
_WARM_UP = 0.2
_BETAS = (20.0, 2.0)


class SoftRounded(FakeQuantized):
    """A quantized model whose weights choose between two neighbouring integers.

    Args:
        model: a model with QuantizeLinear and DequantizeLinear.
        masters: float weights by the names of the integers; weights without an entry are not trained.
        outputs: the outputs to compute, as in `TorchModel`.

    In training mode weights lie between two integers, in evaluation mode on the nearer one. All else is fixed.
    """

    def __init__(
        self, model: ir.Model, masters: Mapping[str, np.ndarray], *, outputs: Sequence[str] | None = None
    ) -> None:
        super().__init__(model, masters, outputs=outputs)
        self.requires_grad_(False)
        self.soft = nn.Module()
        for key, weight in self.by_key.items():
            if weight.largest.ndim and weight.name in masters:
                steps = self.weights._parameters[key] / self.scale(weight.scale).reshape(weight.shape)
                above = (steps - steps.floor()).clamp(0.01, 0.99)
                self.soft.register_parameter(key, nn.Parameter(-((_HIGH - _LOW) / (above - _LOW) - 1).log()))

    def up(self, key: str) -> Tensor:
        """Return the degree to which each weight is rounded up, from 0 to 1."""
        return (torch.sigmoid(self.soft._parameters[key]) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, by key."""
        found = super().tensors()
        for key in self.soft._parameters:
            weight, up = self.by_key[key], self.up(key)
            scale = self.scale(weight.scale).reshape(weight.shape)
            steps = (self.weights._parameters[key] / scale).floor() + (up if self.training else (up >= 0.5).to(up))
            largest = torch.as_tensor(weight.largest, dtype=steps.dtype, device=steps.device)
            found[key] = torch.minimum(torch.maximum(steps, -largest), largest) * scale
        return found


def soft_rounding(masters: Mapping[str, np.ndarray]) -> Method:
    """Return the training of blocks in which only the rounding of weights is learned."""

    def make(model: ir.Model, names: Sequence[str]) -> TorchModel:
        return SoftRounded(model, masters, outputs=names)

    return Method(make, _write, _undecided)


def _undecided(module: TorchModel, done: float) -> Tensor:
    """Return the penalty of values between two integers; it gets sharper towards the end."""
    assert isinstance(module, SoftRounded)
    if done < _WARM_UP:
        return torch.zeros(())
    beta = _BETAS[1] + (_BETAS[0] - _BETAS[1]) * (1 - (done - _WARM_UP) / (1 - _WARM_UP))
    parts = [1 - (2 * module.up(key) - 1).abs().pow(beta) for key in module.soft._parameters]
    return _SHARE * torch.cat([part.flatten() for part in parts]).mean()


def _write(model: ir.Model, module: TorchModel) -> ir.Model:
    assert isinstance(module, SoftRounded)
    module.eval()
    with torch.no_grad():
        found = module.tensors()
    floats = {module.by_key[key].value: to_array(found[key]) for key in module.soft._parameters}
    weights = [w for w in module.quantized if w.value in floats]
    return in_integers(model, weights, floats, {})
