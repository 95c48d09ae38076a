"""Candidates of a search and their variants."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from onnxopt.options.search import Protect
from onnxopt.options.training import Precision
from onnxopt.passes.distill import Distill
from onnxopt.passes.factorize import Factorize
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Pass
from onnxopt.search.trial import Candidate

Quantizer = QuantizeStatic | QuantizeDynamic
QUANTIZERS = (QuantizeStatic, QuantizeDynamic)
"""INT8 passes that can leave layers in float."""

_REDUCING = (PruneBlocks, PruneChannels, Factorize)

CALIBRATIONS = ("minmax", "percentile", "entropy", "symmetric-entropy", "moving-average")
"""Calibration methods that were best on at least one trained model; the others never were, beyond noise."""


def first_candidates() -> tuple[Candidate, ...]:
    """Return the candidates for every model: simplification, dynamic, and static quantization by each calibration."""
    simplify = Simplify()
    return (
        # In float the runtime fuses on its own, into better kernels than those of standard operators; before
        # quantization, fusing GELU and LayerNorm avoids the rounding of their parts.
        Candidate("simplify", (Simplify(fuse=False),)),
        Candidate("dynamic", (simplify, QuantizeDynamic())),
        # Products run faster with one scale per weight, and the runtime's own fusions may beat standard operators.
        Candidate("dynamic-float-graph", (Simplify(fuse=False), QuantizeDynamic(per_channel=False))),
        Candidate("static-entropy-tensor", (simplify, QuantizeStatic(method="entropy", per_channel=False))),
        *(Candidate(f"static-{m}", (simplify, QuantizeStatic(method=m))) for m in CALIBRATIONS),  # type: ignore[arg-type]
    )


def calibrated_on(candidate: Candidate, samples: int) -> Candidate:
    """Return `candidate` with at most so many calibration samples."""
    passes = tuple(
        replace(spec, samples=samples) if isinstance(spec, QuantizeStatic) and spec.samples > samples else spec
        for spec in candidate.passes
    )
    return replace(candidate, passes=passes)


def row_candidates(*, large: bool = False) -> tuple[Candidate, ...]:
    """Return the candidates tried beside them where products of single rows read more weights than the caches hold.

    The time of such products is that of reading the weights, and four bits are an eighth of them.

    Args:
        large: whether the model is above 1.5 GB: `hqq` takes half a second per million weights there, and `rtn` a
            thirtieth of that.
    """
    return (Candidate("weights-4bit", (Simplify(), QuantizeWeights(bits=4, method="rtn" if large else "hqq"))),)


def static_pass(candidate: Candidate) -> QuantizeStatic | None:
    """Return the static quantization in `candidate`; None without one."""
    return next((p for p in candidate.passes if isinstance(p, QuantizeStatic)), None)


def exact(candidate: Candidate) -> bool:
    """Return whether a candidate is the simplified baseline, with the same outputs up to rounding."""
    return bool(candidate.passes) and all(isinstance(p, Simplify) for p in candidate.passes)


def placed(candidate: Candidate) -> Candidate:
    """Return `candidate` with only those layers in INT8 that were measured to be faster."""
    passes = tuple(replace(p, placement="measured") if isinstance(p, QuantizeStatic) else p for p in candidate.passes)
    return Candidate(f"{candidate.name}-placed", passes)


def keep_in_float(candidate: Candidate, layers: tuple[str, ...]) -> Candidate:
    """Return `candidate` with `layers` in float, in addition to the layers that its quantization already excludes."""
    passes = tuple(_excluding(p, layers) if isinstance(p, QUANTIZERS) else p for p in candidate.passes)
    return Candidate(f"{candidate.name}-keep{len(layers)}", passes)


def _excluding(spec: Quantizer, layers: tuple[str, ...]) -> Quantizer:
    return replace(spec, exclude=tuple(dict.fromkeys((*spec.exclude, *layers))))


AttentionForm = Literal["portable", "runtime"]
ATTENTION: Mapping[AttentionForm, str] = MappingProxyType({"portable": "attention", "runtime": "runtime-attention"})
"""Parts of names by form. With short inputs the standard's node was the faster one (docs/attention.md)."""


def with_fused_attention(candidate: Candidate, form: AttentionForm) -> Candidate | None:
    """Return `candidate` with each attention in one node, before its quantization; None if it has such nodes already.

    The pass does not measure itself, because the search does.
    """
    if any(isinstance(spec, FuseAttention) for spec in candidate.passes):
        return None
    quantizers = (*QUANTIZERS, QuantizeWeights)
    place = next((i for i, spec in enumerate(candidate.passes) if isinstance(spec, quantizers)), len(candidate.passes))
    passes = (*candidate.passes[:place], FuseAttention(form=form, verify=False), *candidate.passes[place:])
    return Candidate(f"{candidate.name}-{ATTENTION[form]}", passes)


DISTILLED = "distilled"
"""The part of a name that says that training follows the reduction."""

PRUNED = (0.75, 0.5, 0.35, 0.25, 0.15)
"""Remaining shares of the multiply-accumulates, tried in turn while the drop is within budget."""
_STEP = 0.05
"""Shares between two others are multiples of it."""


def between(larger: float, smaller: float) -> float:
    """Return the share to try where the smaller of two loses too much: their mean, rounded up to a multiple of 5 %."""
    return round(math.ceil((larger + smaller) / 2 / _STEP - 1e-9) * _STEP, 2)


def pruned(candidate: Candidate, macs: float, protect: tuple[Protect, ...] = ()) -> Candidate:
    """Return `candidate` with pruning before its other passes, after batch norms are folded; without its training."""
    rest, name = _untrained(candidate)
    passes = (Simplify(fuse=False), PruneChannels(macs=macs, protect=protect or None), *rest)
    return Candidate(f"pruned-to-{macs:.0%}+{name}", passes)


def _untrained(candidate: Candidate) -> tuple[tuple[Pass, ...], str]:
    """Return passes and name without training: what it takes is decided where the drop without it is known."""
    rest = () if exact(candidate) else tuple(spec for spec in candidate.passes if not isinstance(spec, Distill))
    return rest, candidate.name.replace(f"{DISTILLED}+", "")


BLOCKS = (0.92, 0.84, 0.76)
"""Remaining shares of the residual blocks, tried in turn while the drop is within budget."""


def shallower(candidate: Candidate, blocks: float) -> Candidate:
    """Return `candidate` with fewer residual blocks, and linear maps in their place, before its other passes.

    Training is left out, as in `pruned`.
    """
    rest, name = _untrained(candidate)
    passes = (Simplify(fuse=False), PruneBlocks(ratio=round(1 - blocks, 2)), *rest)
    return Candidate(f"blocks-to-{blocks:.0%}+{name}", passes)


def shallower_in_sizes(
    candidate: Candidate, gone: Mapping[int, Sequence[str]], sizes: Sequence[Sequence[str]]
) -> Candidate:
    """Return `candidate` without given residual blocks of one size or several, with linear maps as in `shallower`.

    Args:
        candidate: the candidate whose passes follow.
        gone: names of the blocks to remove, by the position of their size in `sizes`.
        sizes: names of all removable blocks by size.
    """
    rest, name = _untrained(candidate)
    removed = {block for blocks in gone.values() for block in blocks}
    kept = tuple(block for blocks in sizes for block in blocks if block not in removed)
    passes = (Simplify(fuse=False), PruneBlocks(count=len(removed), exclude=kept), *rest)
    parts = [f"blocks-{number + 1}-to-{1 - len(blocks) / len(sizes[number]):.0%}" for number, blocks in gone.items()]
    return Candidate("+".join((*parts, name)), passes)


RECOVERY = Distill(epochs=40, augment=("crop",))
"""Options of distillation; small shifts of an image do not change its contents.

Accuracy rises with the steps for as long as there is time, as Beyer et al. found ("Knowledge distillation: a good
teacher is patient and consistent", CVPR 2022).
"""
MOST_STEPS = 6000
"""Largest number of steps of a distillation without a time limit."""


def reduces(candidate: Candidate) -> bool:
    """Return whether a candidate is pruned or factorized, so that training can recover accuracy."""
    return any(isinstance(spec, _REDUCING) for spec in candidate.passes)


def recovered(candidate: Candidate, samples: int, most: int = MOST_STEPS, precision: Precision = "auto") -> Candidate:
    """Return a candidate with distillation from the baseline after its reduction, before its other passes.

    Args:
        candidate: a pruned or factorized candidate.
        samples: number of samples to learn from; with more samples, each is used less often.
        most: largest number of steps.
        precision: number format of the training.
    """
    place = max(i for i, spec in enumerate(candidate.passes) if isinstance(spec, _REDUCING)) + 1
    long = samples * RECOVERY.epochs > most * RECOVERY.batch_size
    training = replace(RECOVERY, steps=most if long else 0, precision=precision)
    passes = (*candidate.passes[:place], training, *candidate.passes[place:])
    return Candidate(candidate.name.replace("+", f"+{DISTILLED}+", 1), passes, candidate.predicted)
