"""Output loss by disabled blocks, measured without building a model per choice."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.graph.blocks.cut import gate_names, gated
from onnxopt.graph.blocks.find import Block
from onnxopt.measure.fidelity import powers, tensors
from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.measure.output_error import relative_power
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.pipeline import Context
from onnxopt.samples import Feeds, Samples

_MEASURED_AGAIN = 8
"""Blocks measured again after each removal: those that seemed to matter least before it."""


class BlockLoss:
    """A model with a gate on each of its blocks; blocks in those that are off are off too.

    Args:
        model: the model.
        blocks: the blocks that may be switched off.
        runtime: options of the session.
        known: losses of the same model on the same batches, by names of the removed blocks; new ones are added.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """

    def __init__(
        self,
        model: ir.Model,
        blocks: Sequence[Block],
        runtime: Runtime | None = None,
        *,
        known: dict[frozenset[str], float] | None = None,
    ) -> None:
        self._known = known
        self._session = Session(gated(model, blocks), runtime or Runtime())
        self._open = {
            name: np.ones((), block.dtype.numpy()) for name, block in zip(gate_names(blocks), blocks, strict=True)
        }
        self._gates = dict(zip((b.name for b in blocks), gate_names(blocks), strict=True))

    def of(self, choices: Sequence[Iterable[str]], batches: Iterable[Feeds]) -> list[float]:
        """Return for each choice of blocks to remove, by name, the RMS error of the outputs relative to their RMS.

        The worst of several outputs counts; outputs other than numbers count as 1 where they differ anywhere.
        One batch of outputs is in memory at a time.

        Raises:
            NativeError: ONX401 a run failed.
        """
        known = {} if self._known is None else self._known
        wanted = [frozenset(choice) for choice in choices]
        unknown = [choice for choice in dict.fromkeys(wanted) if choice not in known]
        if unknown:
            known.update(zip(unknown, interruptible(lambda: self._measured(unknown, batches)), strict=True))
        return [known[choice] for choice in wanted]

    def _measured(self, choices: Sequence[Iterable[str]], batches: Iterable[Feeds]) -> list[float]:
        sums = [dict[str, np.ndarray]() for _ in choices]
        for feeds in batches:
            before = self._session.named({**feeds, **self._open})
            for choice, total in zip(choices, sums, strict=True):
                closed = {self._gates[b]: np.zeros_like(self._open[self._gates[b]]) for b in choice}
                after = self._session.named({**feeds, **self._open, **closed})
                for name in before:
                    total[name] = total.get(name, np.zeros(2)) + _powers(name, before, after)
        return [
            max((np.sqrt(relative_power(error, signal)) for signal, error in total.values()), default=0.0)
            for total in sums
        ]

    def of_each(
        self, blocks: Sequence[Block], batches: Iterable[Feeds], gone: Sequence[Block] = ()
    ) -> dict[str, float]:
        """Return the loss by name when each of `blocks` is removed alone, or beside those removed already."""
        choices = [[b.name for b in (*gone, one)] for one in blocks]
        return dict(zip((b.name for b in blocks), self.of(choices, batches), strict=True))


def known_losses(context: Context, model: ir.Model, samples: Samples | None) -> dict[frozenset[str], float]:
    """Return the losses that are known so far of a model on these samples: steps of one search share them.

    Args:
        context: the context of all steps.
        model: the model, whose nodes have names.
        samples: the samples that they are measured on; None for synthetic inputs.
    """
    key = model_file.digest(model), None if samples is None else samples.selection
    return context.cache.once("block losses", key, dict[frozenset[str], float])


def least_important(
    blocks: Sequence[Block],
    number: int,
    scores: Mapping[str, float],
    loss: BlockLoss | None,
    batches: Iterable[Feeds],
) -> list[Block]:
    """Return up to `number` blocks to remove, the least important first; blocks inside them count too.

    With `loss`, those next in the order are measured again after each removal, since the others may have become more
    important. The number of measurements does not depend on the number of blocks.

    Args:
        blocks: the blocks to choose from.
        number: the number of blocks.
        scores: the scores by name; blocks with the lowest are removed first.
        loss: measures again; None keeps to the scores.
        batches: batches to measure on, as often as needed.
    """
    current, chosen, left = dict(scores), list[Block](), list(blocks)
    while True:
        inside = {b.name: [o for o in left if b.holds(o)] for b in left}
        fitting = sorted((b for b in left if 1 + len(inside[b.name]) <= number), key=lambda b: current[b.name])
        if not fitting:
            return chosen
        if chosen and loss is not None:
            fitting = fitting[:_MEASURED_AGAIN]
            current |= loss.of_each(fitting, batches, chosen)
        best = min(fitting, key=lambda b: current[b.name])
        chosen.append(best)
        number -= 1 + len(inside[best.name])
        left = [b for b in left if b is not best and b not in inside[best.name]]


def _powers(name: str, before: Outputs, after: Outputs) -> np.ndarray:
    pair = tensors(name, before, after, 1)
    if pair is None:
        return np.array((1.0, float(not np.array_equal(before[name], after[name]))))
    signal, error = powers(*pair)
    return np.array((signal.sum(), error.sum()))
