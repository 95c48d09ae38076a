"""Steps of removal that are measured before a training: how far they go, and residual blocks by their size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import TypeVar

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.blocks.find import blocks_of
from onnxopt.graph.edit import name_nodes
from onnxopt.measure.runtime.batches import as_it_runs
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.simplify import Simplify
from onnxopt.pruning.block_loss import BlockLoss, known_losses
from onnxopt.search.candidates import shallower_in_sizes
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.search.trials import Trials

S = TypeVar("S", float, int)

REACH = MappingProxyType({"blocks": 8.0, "channels": 4.0})
"""Ratio of drop to budget up to which a candidate is worth a training, by what was removed.

Distillation leaves 0.1 of the 7.0 points that a ResNet-20 loses without two of its nine blocks (docs/search.md), and
1.6 of the 5.5 that it loses without the channels of half of its work (docs/recovery.md). Shorter trainings leave more.
"""

ROUNDING = 1 + 1e-9
"""Factor for drops that equal a limit."""

_GONE = (1, 2, 3, 4, 6, 8)
"""Numbers of blocks of one size that are removed."""

_SAMPLES = 128
"""Samples for the losses without blocks."""

_MOST_SIZES = 4
"""Number of sizes of blocks that are tried alone."""

_TOGETHER = 1.5
"""Share of the reach that the drops of two sizes may add up to: a first training often leaves less than it assumes."""

_MOST_PAIRS = 2
"""Number of pairs of sizes that are tried."""


@dataclass(frozen=True)
class _Step:
    """Neighbouring blocks of one size removed: the position of the size, the blocks' names, and the trial."""

    number: int
    gone: tuple[str, ...]
    trial: Trial


def ladder(trials: Trials, make: Callable[[S], Candidate], steps: Sequence[S]) -> dict[S, Trial]:
    """Return the trials of steps of removal, up to the first one out of reach."""
    found = dict[S, Trial]()
    for step in steps:
        if trials.enough():
            break
        trial = trials.run(make(step))
        if trial.verdict is Verdict.SAME:
            continue
        if trial.drop is None or trial.drop.broken:
            break
        found[step] = trial
        if not in_reach(trials, trial):
            break
    return found


def in_reach(trials: Trials, trial: Trial, share: float = 1.0) -> bool:
    """Return whether a training may bring a trial within budget, or its drop is within a share of that reach."""
    return _drop(trial) <= share * REACH[removed_by(trial)] * trials.bar.allowed_drop * ROUNDING


def removed_by(trial: Trial) -> str:
    """Return what a candidate removes, as a key of `REACH`."""
    return "channels" if any(isinstance(spec, PruneChannels) for spec in trial.candidate.passes) else "blocks"


def without_blocks_by_size(trials: Trials, base: Candidate) -> list[Trial]:
    """Return the trials of removing neighbouring blocks of one size, those with the smallest sum of losses, and of two.

    A block saves more time where its values are large, and training brings more back where few weights are gone: both
    hold for the first blocks of an image network. The order of all blocks is that of their losses, whatever they save.
    """
    losses = trials.deadline.in_time(lambda: _losses(trials)) or []
    sizes = [[*of_size] for of_size in losses]
    steps: list[_Step] = []
    for number, of_size in enumerate(losses[:_MOST_SIZES] if len(losses) > 1 else ()):
        gone = {count: neighbours(of_size, count) for count in _GONE if count <= len(of_size)}

        def make(count: int, number: int = number, gone: Mapping[int, tuple[str, ...]] = gone) -> Candidate:
            return shallower_in_sizes(base, {number: gone[count]}, sizes)

        steps += [_Step(number, gone[count], trial) for count, trial in ladder(trials, make, [*gone]).items()]
    pairs = [{one.number: one.gone for one in pair} for pair in _fastest_pairs(trials, steps)]
    together = [trials.run(shallower_in_sizes(base, pair, sizes)) for pair in pairs if not trials.enough()]
    return [*(step.trial for step in steps), *(one for one in together if one.drop is not None and not one.drop.broken)]


def neighbours(losses: Mapping[str, float], gone: int) -> tuple[str, ...]:
    """Return the neighbouring blocks with the smallest sum of losses; `losses` by name, in graph order."""
    names = [*losses]
    windows = [names[start : start + gone] for start in range(len(names) - gone + 1)]
    return tuple(min(windows, key=lambda one: sum(losses[name] for name in one)))


def _fastest_pairs(trials: Trials, steps: Sequence[_Step]) -> list[tuple[_Step, _Step]]:
    """Return pairs of steps of two sizes whose drops add up to little, those first that save the most time together."""
    measured = [step for step in steps if step.trial.latency is not None and step.trial.latency.speedup is not None]
    limit = _TOGETHER * REACH["blocks"] * trials.bar.allowed_drop * ROUNDING
    pairs = [
        (one, other)
        for one, other in combinations(measured, 2)
        if one.number != other.number and _drop(one.trial) + _drop(other.trial) <= limit
    ]
    return sorted(pairs, key=lambda pair: sum(trials.bar.rank(one.trial) for one in pair))[:_MOST_PAIRS]


def _drop(trial: Trial) -> float:
    return 0.0 if trial.drop is None else trial.drop.value


def _losses(trials: Trials) -> list[dict[str, float]]:
    """Return the output loss without each removable block, by name in graph order, per number of weights."""
    try:
        # Names and weights are those behind the first pass.
        model = trials.preparation.run((Simplify(fuse=False),)).model
        name_nodes(model)
        blocks = blocks_of(model)[0]
        samples = as_it_runs(Session(model, Runtime()), trials.parts.calibration.take(_SAMPLES))
        known = known_losses(trials.context, model, samples)
        losses = BlockLoss(model, blocks, known=known).of_each(blocks, samples) if blocks else {}
    except (ModelError, NativeError):
        return []
    found = dict[int, dict[str, float]]()
    for block in blocks:
        found.setdefault(block.parameters, {})[block.name] = losses[block.name]
    return [*found.values()]
