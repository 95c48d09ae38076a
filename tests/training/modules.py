"""Small torch modules, their exports, and the gradients torch itself computes."""

import io
from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from onnxopt.model_file import from_proto
from onnxopt.training.module.coverage import (
    inlined_functions,
    inputs_of,
    live_nodes,
    named_outputs,
    unsupported_in,
)


class Cnn(nn.Module):
    """Convolutions with batch normalization, a residual, a depthwise layer and a strided one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.wide, self.head = nn.Conv2d(8, 12, 3, stride=2), nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(x + self.deep_norm(self.deep(x)))
        x = nn.functional.max_pool2d(nn.functional.silu(self.wide(x)), 2)
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """A block of attention and a block of two dense layers, both behind a layer normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids)
        batch, time, width = x.shape
        q, k, v = self.qkv(self.first(x)).reshape(batch, time, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        x = x + self.down(nn.functional.gelu(self.up(self.second(x))))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """A recurrent layer and a dense one on its last output."""

    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get("bidirectional") else 8, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)[0][:, -1])


MODULES = {
    "cnn": (Cnn, (3, 3, 12, 12)),
    "transformer": (Transformer, None),
    "lstm": (lambda: Recurrent(nn.LSTM, bidirectional=True, num_layers=2), (3, 7, 6)),
    "gru": (lambda: Recurrent(nn.GRU), (3, 7, 6)),
    "rnn": (lambda: Recurrent(nn.RNN), (3, 7, 6)),
}


def module_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a module in which no two weights are equal, and a batch for it."""
    make, shape = MODULES[name]
    torch.manual_seed(7)
    module = make().eval()
    for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
        tensor.data.add_(0.3 * torch.rand_like(tensor))
    return module, torch.randint(0, 11, (3, 7)) if shape is None else torch.randn(shape)


def exported(module: nn.Module, x: torch.Tensor, exporter: str) -> ir.Model:
    if exporter == "dynamo":
        batch = {0: torch.export.Dim("batch")}
        program = torch.onnx.export(
            module, (x,), dynamo=True, input_names=["x"], output_names=["y"], dynamic_shapes=(batch,), verbose=False
        )
        return from_proto(program.model_proto)
    buffer = io.BytesIO()
    torch.onnx.export(
        module, (x,), buffer, dynamo=False, input_names=["x"], output_names=["y"], opset_version=17,
        dynamic_axes={"x": {0: "batch"}}, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
    )  # fmt: skip
    return from_proto(onnx.load_from_string(buffer.getvalue()))


def unsupported(model: ir.Model, outputs: Sequence[str] | None = None) -> tuple[tuple[str, str], ...]:
    """Return the nodes that keep `model` from being trained, as (node name, op type).

    Args:
        model: any.
        outputs: names of those that are wanted; by default all.

    Raises:
        UsageError: ONX101 there is no such output.
    """
    flat = inlined_functions(model)
    return unsupported_in(live_nodes(flat.graph, named_outputs(flat.graph, outputs)), inputs_of(flat.graph))
