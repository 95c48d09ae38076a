"""Recurrent layers step by step: every activation, length, clipping and peephole that ONNX knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.training.ops.rule import Site

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Gates:
    """Number of gates of a layer, and its default activations."""

    count: int
    activations: tuple[str, ...]


GATES: Mapping[str, Gates] = {
    "GRU": Gates(3, ("sigmoid", "tanh")),
    "LSTM": Gates(4, ("sigmoid", "tanh", "tanh")),
    "RNN": Gates(1, ("tanh",)),
}
_PLAIN: Mapping[str, Function] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}
_SCALED: Mapping[str, tuple[float, float, Callable[[Tensor, float, float], Tensor]]] = {
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b),
    "elu": (1.0, 0.0, lambda x, a, _: F.elu(x, a)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: (a * x + b).clamp(0.0, 1.0)),
    "leakyrelu": (0.01, 0.0, lambda x, a, _: F.leaky_relu(x, a)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: a * torch.tanh(b * x)),
    "thresholdedrelu": (1.0, 0.0, lambda x, a, _: F.threshold(x, a, 0.0)),
}


@dataclass(frozen=True)
class Cell:
    """The computation of one step, without its weights; `functions` are the activations of each direction."""

    kind: str
    functions: tuple[tuple[Function, ...], ...]
    clip: float | None
    coupled: bool
    resets_after: bool


def cell_of(site: Site) -> Cell:
    """Return the cell of a node."""
    defaults = GATES[site.op_type].activations
    directions = 2 if site.get("direction", "forward") == "bidirectional" else 1
    names = [n.lower() for n in site.get("activations") or defaults * directions]
    if unknown := [n for n in names if n not in _PLAIN and n not in _SCALED]:
        raise site.refuse(f"its activation is {unknown[0]}")
    alphas, betas = (list(site.get(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    functions = [_activation(name, alphas, betas) for name in names]
    count = len(defaults)
    return Cell(
        site.op_type,
        tuple(tuple(functions[i : i + count]) for i in range(0, len(functions), count)),
        site.get("clip"),
        bool(site.get("input_forget", 0)),
        bool(site.get("linear_before_reset", 0)),
    )


def _activation(name: str, alphas: list[float], betas: list[float]) -> Function:
    """Return an activation; those that have parameters take theirs from the lists in turn."""
    if name in _PLAIN:
        return _PLAIN[name]
    alpha, beta, function = _SCALED[name]
    alpha = alphas.pop(0) if alphas else alpha
    beta = betas.pop(0) if betas and name in ("affine", "hardsigmoid", "scaledtanh") else beta
    return lambda x: function(x, alpha, beta)


@dataclass(frozen=True)
class RecurrentWeights:
    """The weights of a layer as ONNX has them, directions first.

    Attributes:
        w: the weights of the inputs, shape (directions, gates * hidden, inputs).
        r: the weights of the hidden state, shape (directions, gates * hidden, hidden).
        b: both biases, one after the other; None for zeros.
        peepholes: shape (directions, 3 * hidden), of an LSTM; None for none.
    """

    w: Tensor
    r: Tensor
    b: Tensor | None
    peepholes: Tensor | None = None


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer: its cell, activations and weights of the hidden state."""

    cell: Cell
    functions: tuple[Function, ...]
    r: Tensor
    bias: Tensor
    holes: Sequence[Tensor] | None

    def clipped(self, x: Tensor) -> Tensor:
        return x if not self.cell.clip else x.clamp(-self.cell.clip, self.cell.clip)


def run_cell(
    cell: Cell, direction: str, x: Tensor, weights: RecurrentWeights, *, lengths: Tensor | None, state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return all hidden states (time, directions, batch, hidden) and the last state (directions, batch, hidden)."""
    outputs, last = [], []
    for d, w in enumerate(weights.w):
        backwards = direction == "reverse" or d == 1
        turned = _turned(x, lengths) if backwards else x
        inner, recurrent = (weights.b[d] if weights.b is not None else w.new_zeros(2 * len(w))).chunk(2)
        holes = None if weights.peepholes is None else weights.peepholes[d].chunk(3)
        one = _Direction(cell, cell.functions[d], weights.r[d], recurrent, holes)
        y, end = _run_one(one, F.linear(turned, w, inner), lengths, [s[d] for s in state])
        outputs.append(_turned(y, lengths) if backwards else y)
        last.append(end)
    return torch.stack(outputs, 1), tuple(torch.stack(part) for part in zip(*last, strict=True))


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return sequences (time, batch, ...) back to front, each within its own length."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    back = lengths.long()[None, :] - 1 - steps
    index = torch.where(back >= 0, back, steps)
    return torch.gather(x, 0, index[:, :, None].expand(-1, -1, x.shape[2]))


def _run_one(one: _Direction, fed: Tensor, lengths: Tensor | None, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    outputs = []
    for t in range(fed.shape[0]):
        new = _STEPS[one.cell.kind](one, fed[t], state)
        if lengths is None:
            outputs.append(new[0])
        else:
            alive = (t < lengths)[:, None]
            outputs.append(torch.where(alive, new[0], torch.zeros_like(new[0])))
            new = [torch.where(alive, n, s) for n, s in zip(new, state, strict=True)]
        state = new
    return torch.stack(outputs), state


def _lstm_step(one: _Direction, fed: Tensor, state: list[Tensor]) -> list[Tensor]:
    gate, candidate, output = one.functions
    h, c = state
    i, o, f, g = (fed + F.linear(h, one.r, one.bias)).chunk(4, -1)
    if one.holes is not None:
        i, f = i + one.holes[0] * c, f + one.holes[2] * c
    i = gate(one.clipped(i))
    f = 1 - i if one.cell.coupled else gate(one.clipped(f))
    c = f * c + i * candidate(one.clipped(g))
    o = o if one.holes is None else o + one.holes[1] * c
    return [gate(one.clipped(o)) * output(c), c]


def _gru_step(one: _Direction, fed: Tensor, state: list[Tensor]) -> list[Tensor]:
    gate, candidate = one.functions
    (h,) = state
    size = h.shape[-1]
    zr = fed[:, : 2 * size] + F.linear(h, one.r[: 2 * size], one.bias[: 2 * size])
    z, reset = gate(one.clipped(zr)).chunk(2, -1)
    rest, shift, x = one.r[2 * size :], one.bias[2 * size :], fed[:, 2 * size :]
    mixed = reset * F.linear(h, rest, shift) if one.cell.resets_after else F.linear(reset * h, rest, shift)
    new = candidate(one.clipped(x + mixed))
    return [(1 - z) * new + z * h]


def _rnn_step(one: _Direction, fed: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [one.functions[0](one.clipped(fed + F.linear(state[0], one.r, one.bias)))]


_STEPS: Mapping[str, Callable[[_Direction, Tensor, list[Tensor]], list[Tensor]]] = {
    "GRU": _gru_step,
    "LSTM": _lstm_step,
    "RNN": _rnn_step,
}
