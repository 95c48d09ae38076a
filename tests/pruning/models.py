"""Random networks that pruning hurts, and samples of them."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx import TensorProto

from onnxopt.graph.channels.find import Channels, channels_of, normalized
from onnxopt.model_file import signature_of
from onnxopt.pruning.ranking import Ranking, by_weights
from onnxopt.reconstruction.layers import with_biases
from onnxopt.samples import Samples
from tests import builders

F = TensorProto.FLOAT
WIDTH = 12


def residual_net(seed: int) -> ir.Model:
    """Return two residual blocks of convolutions, batch norms and ReLUs, and a classifier."""
    net = builders.Net(seed)
    x = net.node("Relu", net.bn(net.conv("x", 3, WIDTH), WIDTH))
    for _ in range(2):
        inner = net.node("Relu", net.bn(net.conv(x, WIDTH, WIDTH, bias=False), WIDTH))
        x = net.node("Relu", net.node("Add", net.bn(net.conv(inner, WIDTH, WIDTH, bias=False), WIDTH), x))
    net.pool_fc(x, WIDTH, 5)
    return net.model([("x", F, ["n", 3, 6, 6])], [("y", F, ["n", 5])])


def mlp(seed: int) -> ir.Model:
    """Return three products without biases and two ReLUs."""
    net = builders.Net(seed)
    one = net.node("Relu", net.node("MatMul", "x", net.weight(8, 24)))
    two = net.node("Relu", net.node("MatMul", one, net.weight(24, 16)))
    net.node("MatMul", two, net.weight(16, 4), out="y")
    return net.model([("x", F, ["n", 8])], [("y", F, ["n", 4])])


@dataclass(frozen=True)
class Correlated:
    """Samples that vary in few directions, as real ones do; sample i is drawn with seed i."""

    model: ir.Model
    count: int
    name: str = "correlated"
    labels: None = None
    stacks: bool = True

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, np.ndarray]:
        (spec,) = signature_of(self.model).inputs
        shape = tuple(int(d) for d in (spec.shape or ())[1:])
        basis = np.random.default_rng(77).standard_normal((5, *shape))
        rng = np.random.default_rng(index)
        mixed = np.tensordot(rng.standard_normal(5), basis, 1) + 0.3 * rng.standard_normal(shape)
        return {spec.name: mixed.astype(np.float32)}


def samples_of(model: ir.Model, count: int, batch_size: int = 4) -> Samples:
    return Samples.of(Correlated(model, count), batch_size)


def prepared(model: ir.Model) -> Channels:
    work = normalized(model)
    with_biases(work)
    return channels_of(work)


def kept_by_magnitude(channels: Channels, share: float) -> dict[str, tuple[int, ...]]:
    """Return the units of every group that stay when `share` of each goes."""
    return {
        group.name: Ranking.by_scores(by_weights(channels, group, "l1", 0)).kept(round(group.size * share), group.size)
        for group in channels.groups
        if group.frozen is None
    }
