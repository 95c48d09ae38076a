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


def run_cell(
    cell: Cell,
    direction: str,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    state: Sequence[Tensor],
    peepholes: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return all hidden states (time, directions, batch, hidden) and the last state (directions, batch, hidden)."""
    outputs, last = [], []
    for d in range(w.shape[0]):
        backwards = direction == "reverse" or d == 1
        fed = _turned(x, lengths) if backwards else x
        bias = b[d] if b is not None else w.new_zeros(2 * w.shape[1])
        y, end = _run_one(cell, d, fed, w[d], r[d], bias, lengths, [s[d] for s in state], peepholes)
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


def _run_one(
    cell: Cell,
    d: int,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor,
    lengths: Tensor | None,
    state: list[Tensor],
    peepholes: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    inner, recurrent = bias.chunk(2)
    fed = F.linear(x, w, inner)
    holes = None if peepholes is None else peepholes[d].chunk(3)
    outputs = []
    for t in range(x.shape[0]):
        new = _STEPS[cell.kind](cell, cell.functions[d], fed[t], r, recurrent, state, holes)
        if lengths is None:
            outputs.append(new[0])
        else:
            alive = (t < lengths)[:, None]
            outputs.append(torch.where(alive, new[0], torch.zeros_like(new[0])))
            new = [torch.where(alive, n, s) for n, s in zip(new, state, strict=True)]
        state = new
    return torch.stack(outputs), state


def _clipped(cell: Cell, x: Tensor) -> Tensor:
    return x if not cell.clip else x.clamp(-cell.clip, cell.clip)


Step = Callable[
    [Cell, tuple[Function, ...], Tensor, Tensor, Tensor, list[Tensor], Sequence[Tensor] | None], list[Tensor]
]


def _lstm_step(
    cell: Cell,
    functions: tuple[Function, ...],
    fed: Tensor,
    r: Tensor,
    bias: Tensor,
    state: list[Tensor],
    holes: Sequence[Tensor] | None,
) -> list[Tensor]:
    gate, candidate, output = functions
    h, c = state
    i, o, f, g = (fed + F.linear(h, r, bias)).chunk(4, -1)
    if holes is not None:
        i, f = i + holes[0] * c, f + holes[2] * c
    i = gate(_clipped(cell, i))
    f = 1 - i if cell.coupled else gate(_clipped(cell, f))
    c = f * c + i * candidate(_clipped(cell, g))
    o = o if holes is None else o + holes[1] * c
    return [gate(_clipped(cell, o)) * output(c), c]


def _gru_step(
    cell: Cell,
    functions: tuple[Function, ...],
    fed: Tensor,
    r: Tensor,
    bias: Tensor,
    state: list[Tensor],
    holes: Sequence[Tensor] | None,
) -> list[Tensor]:
    gate, candidate = functions
    (h,) = state
    size = h.shape[-1]
    zr = fed[:, : 2 * size] + F.linear(h, r[: 2 * size], bias[: 2 * size])
    z, reset = gate(_clipped(cell, zr)).chunk(2, -1)
    rest, shift, x = r[2 * size :], bias[2 * size :], fed[:, 2 * size :]
    mixed = reset * F.linear(h, rest, shift) if cell.resets_after else F.linear(reset * h, rest, shift)
    new = candidate(_clipped(cell, x + mixed))
    return [(1 - z) * new + z * h]


def _rnn_step(
    cell: Cell,
    functions: tuple[Function, ...],
    fed: Tensor,
    r: Tensor,
    bias: Tensor,
    state: list[Tensor],
    holes: Sequence[Tensor] | None,
) -> list[Tensor]:
    return [functions[0](_clipped(cell, fed + F.linear(state[0], r, bias)))]


_STEPS: Mapping[str, Step] = {"GRU": _gru_step, "LSTM": _lstm_step, "RNN": _rnn_step}
