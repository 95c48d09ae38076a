"""A model learns from labels, judged by held-out labels."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.errors import DataError, ModelError, UsageError, nearest
from onnxopt.samples import Samples
from onnxopt.samples.core import Batch
from onnxopt.samples.labels import differ
from onnxopt.training.batches import Batches, in_batches, split_held_out
from onnxopt.training.distill import Distilled
from onnxopt.training.label_loss import LabelLoss, label_loss
from onnxopt.training.module.parity import check_parity
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.write_back import write_back
from onnxopt.training.ops.convert import to_tensors
from onnxopt.training.schedule import Schedule
from onnxopt.training.trainer import Trainer, processes


@dataclass(frozen=True)
class FineTuning:
    """Options of training a model on labels.

    Attributes:
        epochs: number of passes over the samples, when `steps` is 0.
        steps: number of optimizer steps, in place of `epochs`.
        schedule: learning rate and batch size of the steps; its own number of steps does not count.
        loss: see `onnxopt.training.label_loss`.
        output: model output that the labels belong to; the first when empty.
        augmentations: see `onnxopt.training.augment`.
        held_out: share of the samples held out to judge the result.
        batch_norm: `frozen` or `trained`.
        device: torch device.
        checkpoint: see `Trainer`.
    """

    epochs: float = 5.0
    steps: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(1))
    loss: str = "auto"
    output: str = ""
    augmentations: tuple[str, ...] = ()
    held_out: float = 0.1
    batch_norm: str = "frozen"
    device: str = "cpu"
    checkpoint: Path | None = None


def finetune(
    model: ir.Model,
    samples: Samples,
    options: FineTuning,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Train `model` on the labels of `samples`; return it with the weights that did best on held-out samples.

    Raises:
        DataError: ONX208 there are no labels, ONX206 they do not fit.
        ModelError: ONX309 an operator cannot be trained, ONX310 torch computes something else than ONNX Runtime.
        UsageError: ONX101 there is no such loss or output, ONX107 the user's loss cannot be used.
    """
    if samples.labels is None:
        raise DataError("ONX208", "fine-tuning needs labels", hint="Give --labels, or distill, which needs none.")
    if differ(samples.labels):
        raise DataError("ONX206", "the labels differ in shape", hint="Give labels of one shape.")
    norm: Literal["frozen", "trained"] = "trained" if options.batch_norm == "trained" else "frozen"
    module = TorchModel(model, batch_norm=norm, unknown="frozen")
    names = module.output_names
    output = options.output or names[0]
    if output not in names:
        raise UsageError("ONX101", "the model has no such output", where=output, hint=nearest(output, names))
    wrong = label_loss(options.loss, model, output)
    if not any(True for _ in module.parameters()):
        raise ModelError("ONX309", "the model has no float weights to train", hint="Train before it is quantized.")
    parts = split_held_out(in_batches(model, samples, options.schedule.batch_size), options.held_out, seed)
    if parts is None:
        return Distilled(model, None)
    learned, judged = parts
    check_parity(model, module, list(judged.take(1)))
    module.to(options.device)

    def loss(batch: Batch) -> Tensor:
        assert batch.labels is not None
        return wrong(module(to_tensors(batch.feeds, options.device)), batch.labels)

    with processes() as (rank, world):
        torch.manual_seed(seed)
        batches = Batches(learned, options.schedule.batch_size, seed, options.augmentations, rank, world)
        steps = options.steps or max(1, round(options.epochs * batches.per_epoch))
        schedule = replace(options.schedule, steps=steps)
        judge = lambda: held_out_loss(module, wrong, judged, options.device)  # noqa: E731
        trained = Trainer(module, loss, judge, batches, schedule, options.checkpoint, progress).train()
    module.to("cpu")
    return Distilled(write_back(model, module) if trained.improved else model, trained)


def held_out_loss(module: TorchModel, wrong: LabelLoss, samples: Samples, device: str) -> float:
    """Return the mean loss of a module over labelled samples."""
    total, count = 0.0, 0
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for batch in samples.batches():
            assert batch.labels is not None
            size = len(batch.labels)
            total += float(wrong(module(to_tensors(batch.feeds, device)), batch.labels)) * size
            count += size
    module.train(was_training)
    return total / max(count, 1)
