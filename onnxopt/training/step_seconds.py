"""Time of a training step in each number format, measured before a training is planned."""

import time
from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch

from onnxopt.errors import ModelError
from onnxopt.measure.runtime.activations import ending_at
from onnxopt.samples import Samples
from onnxopt.training.batches import Batches, in_batches
from onnxopt.training.distill import Teacher, compared
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.objective import divergence
from onnxopt.training.ops.convert import to_tensors
from onnxopt.training.schedule import Schedule
from onnxopt.training.trainer import mixed_precision

TIMED = 2
"""Timed steps per number format; the fastest counts, because other work on the host only delays."""
STEPS = TIMED + 1
"""Steps per number format: the first one plans the calls of torch."""


def step_seconds(
    model: ir.Model,
    samples: Samples,
    batch_size: int,
    precisions: Sequence[str],
    *,
    augmentations: Sequence[str] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the seconds of a step in which `model` learns from itself, by number format.

    A smaller student takes less: its teacher is as large, its own part is smaller. A processor with instructions for
    bfloat16 need not be faster with it: depthwise convolutions and odd numbers of channels gain nothing.

    Args:
        model: teacher, and student with the same weights (not modified).
        samples: the samples of the training.
        batch_size: samples per step.
        precisions: number formats, see `onnxopt.training.schedule.Schedule`.
        augmentations: see `onnxopt.training.augment`.
        clock: returns seconds.

    Raises:
        ModelError: ONX309 no weight can learn.
    """
    samples = in_batches(model, samples, batch_size)
    batches = Batches(samples, batch_size, 0, augmentations)
    outputs = compared(model, model)
    inner = ending_at(model, outputs)
    module = TorchModel(inner, outputs=outputs, unknown="frozen")
    parameters = list(module.parameters())
    if not parameters:
        raise ModelError("ONX309", "the model has no float weights to train")
    teacher, optimizer = Teacher(model, outputs, "cpu"), Schedule(1).optimizer_of(parameters)
    module.train()

    def step(number: int, precision: str) -> None:
        optimizer.zero_grad(set_to_none=True)
        for batch in batches.at(number):
            with mixed_precision(precision, torch.device("cpu")):
                loss = divergence(module(to_tensors(batch.feeds)), teacher(batch), outputs)
            if not loss.requires_grad:
                raise ModelError("ONX309", "no weight can learn")
            loss.backward()
        optimizer.step()

    def seconds(number: int, precision: str) -> float:
        begun = clock()
        step(number, precision)
        return clock() - begun

    return {one: min([seconds(number, one) for number in range(STEPS)][-TIMED:]) for one in precisions}
