"""The parts of candidate names and their meanings: one legend for help texts, reports and documentation."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

LEGEND: Mapping[str, str] = MappingProxyType(
    {
        "simplify": "constants, batch norms and scalings folded, float32",
        "float": "float32, not quantized",
        "dynamic": "dynamic INT8: activation ranges computed in every run",
        "static": "static INT8: activation ranges calibrated once",
        "weights-Nbit": "weights in N bits, activations in float32",
        "minmax": "calibration by the smallest and largest value",
        "moving-average": "calibration by the moving average of the extremes",
        "percentile": "calibration by percentiles",
        "entropy": "calibration by least KL divergence",
        "symmetric-entropy": "entropy calibration with symmetric ranges",
        "tensor": "one scale per weight tensor, instead of one per channel",
        "float-graph": "GELU and LayerNorm not fused, one scale per weight tensor",
        "placed": "only layers that were measured faster run in INT8",
        "keepN": "the N most sensitive layers stay in float",
        "attention": "each attention in one node of the standard (opset 23)",
        "runtime-attention": "each attention in one node of ONNX Runtime",
        "pruned-to-N%": "channels pruned until N % of the MACs remain",
        "blocks-to-N%": "about N % of the residual blocks remain, linear maps in place of the others",
        "blocks-N-to-N%": "about N % of the residual blocks of one size remain, sizes numbered in graph order",
        "distilled": "trained to match the baseline's outputs after pruning or factorization",
        "mixed-N": "mix number N: pruning, rank and INT8 chosen per layer",
        "bits-N": "mix number N: float, INT8, 8, 4 or 2 bits chosen per matrix",
        "uniform-bits-N": "form number N for all matrices, in the graph of the mixes of bits",
    }
)
"""Meaning of each part of a name; N is a number."""

_NUMBER = re.compile(
    r"(?<=keep)\d+|(?<=weights-)\d+|(?<=pruned-to-)\d+|(?<=blocks-to-)\d+|(?<=blocks-)\d|(?<=blocks-\d-to-)\d+|(?<=mixed-)\d+|(?<=bits-)\d+"
)
_PART = re.compile("|".join(re.escape(part) for part in sorted(LEGEND, key=len, reverse=True)))


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a candidate's name as keys of `LEGEND`, in order.

    Raises:
        ValueError: the name has an unknown part.
    """
    found: list[str] = []
    for block in _NUMBER.sub("N", name).split("+"):
        at = 0
        while at < len(block):
            match = _PART.match(block, at)
            if match is None or (match.end() < len(block) and block[match.end()] != "-"):
                raise ValueError(f"candidate name {name}: unknown part {block[at:]}")
            found.append(match[0])
            at = match.end() + 1
    return tuple(found)


def legend_of(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the parts of these names with their meanings, in the order of `LEGEND`; unknown names add none."""
    used: set[str] = set()
    for name in names:
        try:
            used.update(parts_of(name))
        except ValueError:
            continue
    return tuple((part, meaning) for part, meaning in LEGEND.items() if part in used)


def legend_line() -> str:
    """Return the whole legend as one line of text."""
    return "Candidate names: " + "; ".join(f"{part} = {meaning}" for part, meaning in LEGEND.items()) + "."
