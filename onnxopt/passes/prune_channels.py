"""Channels removed for good, so that the file and the work shrink."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Annotated, ClassVar, Literal
from zlib import crc32

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, OnnxoptError
from onnxopt.graph.channel_cut import cut_channels, mask_channels
from onnxopt.graph.channels import ChannelGroup, Channels, channels_of
from onnxopt.graph.check import require_nodes
from onnxopt.measure.equivalence import largest_difference, runnable
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.samples import Feeds

PROVED_RELATIVE = 1e-4
"""Largest difference between the smaller model and the original with masked channels."""
_WIDE_TARGETS = ("x86-vnni", "x86-avx512", "x86-amx")


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove the least important channels, neurons and heads of every layer, and prove that only those went.

    What belongs to a channel is found by following it through the graph; whatever cannot be followed is left alone.
    The proof runs the original with zeros in place of the channels against the smaller model.

        Conv(64) - Relu - Conv   ->   Conv(48) - Relu - Conv

    Attributes:
        ratio: share of the channels of each group to remove.
        importance: what decides which channels stay.
        round_to: channels are kept in multiples of it; `auto` is the width of the target's registers.
        exclude: names of nodes whose channels stay.
    """

    name: ClassVar[str] = "prune-channels"
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    importance: Literal["l1", "l2", "random"] = "l1"
    round_to: Literal["auto", 1, 2, 4, 8, 16, 32, 64] = "auto"
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune `model`; says which groups stayed whole and why.

        Raises:
            UsageError: ONX102 `exclude` names something that is not there.
        """
        if self.ratio == 0:
            return Applied(model)
        channels = channels_of(model)
        require_nodes(channels.model, self.exclude)
        if not channels.groups:
            return Applied(model, (), (Skip("graph", "no layer has weights whose channels could be followed"),))
        kept, skipped = self.plan(channels, context)
        if not kept:
            return Applied(model, (), tuple(skipped))
        batches = runnable(channels.model, signature_of(model), list(_batches(channels, context)))
        if not batches:
            skipped += [Skip(name, "the model runs on no made-up input, so nothing can be proved") for name in kept]
            return Applied(model, (), tuple(skipped))
        result, proved = _proved(channels, kept, batches, skipped)
        sizes = {group.name: group for group in channels.groups}
        edits = tuple(Edit(name, _action(sizes[name], units)) for name, units in proved.items())
        return Applied(model if result is None else result, edits if result is not None else (), tuple(skipped))

    def plan(self, channels: Channels, context: Context) -> tuple[dict[str, tuple[int, ...]], list[Skip]]:
        """Return the units to keep per group, and the groups that stay whole."""
        kept, skipped = dict[str, tuple[int, ...]](), list[Skip]()
        block = self.round_to if self.round_to != "auto" else 16 if context.target.name in _WIDE_TARGETS else 8
        for group in channels.groups:
            width = min((len(positions[0]) for _, _, positions in group.members), default=1)
            step = block // gcd(block, width)
            count = ceil(ceil(group.size * (1 - self.ratio) - 1e-9) / step) * step
            if group.frozen is not None:
                skipped.append(Skip(group.name, group.frozen))
            elif not set(self.exclude).isdisjoint(group.sources):
                skipped.append(Skip(group.name, "excluded"))
            elif count >= group.size:
                skipped.append(Skip(group.name, f"{group.size} units, kept in multiples of {step}, are not too many"))
            else:
                scores = importance_of(channels, group, self.importance, context.seed)
                best = np.argsort(-scores, kind="stable")[:count]
                kept[group.name] = tuple(sorted(best.tolist()))
        return kept, skipped


def importance_of(channels: Channels, group: ChannelGroup, importance: str, seed: int) -> np.ndarray:
    """Return a score per unit from the matrices and kernels among its weights; higher is kept."""
    if importance == "random":
        return np.random.RandomState((seed + crc32(group.name.encode())) % 2**32).random_sample(group.size)
    scores = np.zeros(group.size)
    for name, axis, positions in group.members:
        tensor = channels.model.graph.initializers[name].const_value
        if tensor is None or len(tensor.shape) < 2:
            continue
        array = np.moveaxis(tensor.numpy(), axis, 0).astype(np.float64).reshape(tensor.shape.numpy()[axis], -1)
        norms = np.abs(array).sum(1) if importance == "l1" else np.square(array).sum(1)
        scores += np.array([norms[list(unit)].sum() for unit in positions])
    return scores


def _batches(channels: Channels, context: Context) -> Iterable[Feeds]:
    signature = signature_of(channels.model)
    first, second = channels.trace.first.fed, channels.trace.second.fed
    # Some models declare a free batch and run at one only.
    single = {name: (1, *shape[1:]) if shape != second[name] else shape for name, shape in first.items()}
    for seed, fed in enumerate((first, second, single)):
        specs = tuple(replace(spec, shape=fed.get(spec.name, spec.shape)) for spec in signature.inputs)
        yield probe_feeds(replace(signature, inputs=specs), seed=seed)
    if context.calibration is not None:
        yield next(iter(context.calibration))


def _proved(
    channels: Channels, kept: dict[str, tuple[int, ...]], batches: list[Feeds], skipped: list[Skip]
) -> tuple[ir.Model | None, dict[str, tuple[int, ...]]]:
    """Return the smaller model and the groups it is smaller in; a group that cannot be proved stays whole."""
    result, reason = _cut_and_prove(channels, kept, batches)
    if result is not None:
        return result, kept
    proved, best = dict[str, tuple[int, ...]](), None
    for name, units in kept.items():
        result, reason = _cut_and_prove(channels, {**proved, name: units}, batches)
        if result is None:
            skipped.append(Skip(name, reason))
        else:
            proved[name], best = units, result
    return best, proved


def _cut_and_prove(
    channels: Channels, kept: dict[str, tuple[int, ...]], batches: list[Feeds]
) -> tuple[ir.Model | None, str]:
    """Return the smaller model, or None and why it is not to be trusted."""
    try:
        smaller = cut_channels(channels, kept)
        difference = largest_difference(mask_channels(channels, kept), smaller, batches)
    except ModelError as error:
        return None, f"not removed: {error.where} {error.why or error.what}".replace("\n", " ")
    except OnnxoptError as error:
        return None, f"not removed: {error.why or error.what}".replace("\n", " ")
    if difference > PROVED_RELATIVE:
        return None, f"not removed: the outputs differ from the masked model by {difference:.1e}"
    return smaller, ""


def _action(group: ChannelGroup, units: tuple[int, ...]) -> str:
    others = f", shared with {', '.join(group.sources[1:])}" if len(group.sources) > 1 else ""
    return f"{group.size - len(units)} of {group.size} channels removed{others}"
