"""LSTM, GRU and RNN: torch's own where it computes the same, step by step elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from onnxopt.training.ops.recurrent_cells import GATES, RecurrentWeights, cell_of, run_cell
from onnxopt.training.ops.rule import Apply, Rule, Site

_TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Positions of torch's gates among those of ONNX: i o f c for an LSTM, z r h for a GRU."""


def _recurrent(site: Site) -> Apply:
    kind, batch_first = site.op_type, bool(site.get("layout", 0))
    direction, hidden = site.get("direction", "forward"), site.get("hidden_size")
    native, fixed = _native(site), site.ints(4)
    cell = cell_of(site)

    def apply(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> Any:
        b, lengths, h, c, peepholes = (*rest, *(None,) * 5)[:5]
        if batch_first:
            x, h, c = (v if v is None else v.transpose(0, 1) for v in (x, h, c))
        size = hidden or r.shape[-1]
        state = [v if v is not None else x.new_zeros(w.shape[0], x.shape[1], size) for v in (h, c)]
        state = state if kind == "LSTM" else state[:1]
        whole = 4 not in site.fed or (fixed is not None and all(n == x.shape[0] for n in fixed))
        if native is not None and whole:
            y, last = _run_native(
                native, direction, x, RecurrentWeights(w, r, b), order=_TORCH_ORDER[kind], state=state
            )
        else:
            y, last = run_cell(cell, direction, x, RecurrentWeights(w, r, b, peepholes), lengths=lengths, state=state)
        outputs = (y, *last)
        if batch_first:
            outputs = (y.permute(2, 0, 1, 3), *(v.transpose(0, 1) for v in last))
        return outputs[: site.outputs] if site.outputs > 1 else outputs[0]

    return apply


def _native(site: Site) -> Callable[..., Any] | None:
    """Return torch's function if it computes what this node does."""
    given = site.get("activations")
    names = {n.lower() for n in given} if given else None
    plain = not site.get("clip") and not site.get("activation_alpha") and not site.get("activation_beta")
    if not plain:
        return None
    if site.op_type == "RNN":
        known: dict[str, Callable[..., Any]] = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
        return known.get(next(iter(names or {"tanh"}))) if len(names or {"tanh"}) == 1 else None
    count = len(GATES[site.op_type].activations)
    if given and any(
        tuple(n.lower() for n in given[i : i + count]) != GATES[site.op_type].activations
        for i in range(0, len(given), count)
    ):
        return None
    if site.op_type == "GRU":
        return torch.gru if site.get("linear_before_reset", 0) else None
    return None if site.get("input_forget", 0) or 7 in site.fed else torch.lstm


def _run_native(
    native: Callable[..., Any],
    direction: str,
    x: Tensor,
    weights: RecurrentWeights,
    *,
    order: Sequence[int],
    state: Sequence[Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    flat = list[Tensor]()
    for d in range(weights.w.shape[0]):
        flat += [_reordered(weights.w[d], order), _reordered(weights.r[d], order)]
        if weights.b is not None:
            flat += [_reordered(part, order) for part in weights.b[d].chunk(2)]
    start = [s.contiguous() for s in state]
    turned = x.flip(0) if direction == "reverse" else x
    both = direction == "bidirectional"
    options = (weights.b is not None, 1, 0.0, torch.is_grad_enabled(), both, False)
    on_cpu = x.device.type == "cpu"
    if on_cpu:
        turned, *start = (value.to(flat[0].dtype) for value in (turned, *start))
    # On processors without instructions for bfloat16, oneDNN has no LSTM in it.
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        found = native(turned, start if len(start) > 1 else start[0], flat, *options)
    y = found[0].flip(0) if direction == "reverse" else found[0]
    return y.unflatten(-1, (weights.w.shape[0], -1)).transpose(1, 2), tuple(found[1:])


def _reordered(gates: Tensor, order: Sequence[int]) -> Tensor:
    parts = gates.chunk(len(order))
    return torch.cat([parts[i] for i in order]) if len(order) > 1 else gates


RULES: Mapping[str, Rule] = {kind: Rule(_recurrent) for kind in ("GRU", "LSTM", "RNN")}
