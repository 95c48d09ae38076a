"""A student learns from its teacher, without labels and without anybody's training code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from onnxopt.errors import ModelError
from onnxopt.measure.metrics.outputs import is_map
from onnxopt.measure.runtime.activations import ending_at
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import signature_of
from onnxopt.samples import Samples
from onnxopt.samples.core import Batch
from onnxopt.training.batches import Batches, in_batches, split_held_out
from onnxopt.training.features import common_features
from onnxopt.training.module.parity import check_parity
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.write_back import write_back
from onnxopt.training.objective import Objective, divergence, label_tensor
from onnxopt.training.ops.convert import to_tensors
from onnxopt.training.schedule import Schedule
from onnxopt.training.trainer import Trained, Trainer, processes

_INNER = frozenset({"feature", "attention", "relation", "flow"})


@dataclass(frozen=True)
class Distillation:
    """Options of training a student on the outputs of a teacher.

    Attributes:
        epochs: number of passes over the samples, when `steps` is 0.
        steps: number of optimizer steps, in place of `epochs`.
        schedule: learning rate and batch size of the steps; its own number of steps does not count.
        losses: weights by name, see `onnxopt.training.objective.Objective`.
        temperature: softmax temperature of the distillation loss.
        alpha: weight of the distillation loss; 1 - alpha is the weight of the label loss.
        features: names of intermediate values to compare; the ends of blocks when empty.
        augmentations: see `onnxopt.training.augment`.
        held_out: share of the samples held out to judge the result.
        batch_norm: `frozen` or `trained`.
        device: torch device.
        checkpoint: see `Trainer`.
    """

    epochs: float = 10.0
    steps: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(1))
    losses: Mapping[str, float] = field(default_factory=lambda: {"response": 1.0})
    temperature: float = 4.0
    alpha: float = 1.0
    features: tuple[str, ...] = ()
    augmentations: tuple[str, ...] = ()
    held_out: float = 0.1
    batch_norm: str = "frozen"
    device: str = "cpu"
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Distilled:
    """A trained student.

    Attributes:
        model: the student with the best weights.
        trained: course and result of the training; None with too few samples for it and its evaluation.
        left_out: losses that found no inner values to compare.
    """

    model: ir.Model
    trained: Trained | None
    left_out: tuple[str, ...] = ()


def distill(
    student: ir.Model,
    teacher: ir.Model,
    samples: Samples,
    options: Distillation,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Train `student` to give the outputs of `teacher`; return it with the weights that did best on held-out samples.

    Source: Hinton et al., "Distilling the knowledge in a neural network", 2015.

    Raises:
        ModelError: ONX308 the two have other inputs or outputs, ONX309 an operator cannot be trained, ONX310 torch
            computes something else than ONNX Runtime.
        DataError: ONX206 labels are needed and do not fit.
    """
    require_same_outputs(student, teacher)
    samples = in_batches(student, samples, options.schedule.batch_size)
    parts = split_held_out(samples, options.held_out, seed)
    if parts is None:
        return Distilled(student, None)
    learned, judged = parts
    outputs = compared(student, teacher)
    features = _features(student, teacher, options)
    losses, left_out = _usable(options.losses, features)
    names = [*outputs, *(name for name in features if name not in outputs)]
    inner = ending_at(student, names)
    norm: Literal["frozen", "trained"] = "trained" if options.batch_norm == "trained" else "frozen"
    module = TorchModel(inner, outputs=names, batch_norm=norm, unknown="frozen")
    if not any(True for _ in module.parameters()):
        raise ModelError("ONX309", "the model has no float weights to train", hint="Train before it is quantized.")
    check_parity(inner, module, list(judged.take(1)))
    module.to(options.device)
    teacher_outputs = Teacher(teacher, names, options.device)
    heat, alpha = options.temperature, options.alpha
    objective = Objective(outputs, features, losses, temperature=heat, alpha=alpha)
    with_labels = alpha < 1 and "response" in losses and samples.labels is not None
    with processes() as (rank, world):
        torch.manual_seed(seed)
        batches = Batches(learned, options.schedule.batch_size, seed, options.augmentations, rank, world)
        first = next(iter(batches.at(0)))
        with torch.no_grad():
            objective.prepare(module(to_tensors(first.feeds, options.device)), teacher_outputs(first))
        objective.to(options.device)

        def loss(batch: Batch) -> Tensor:
            found, wanted = module(to_tensors(batch.feeds, options.device)), teacher_outputs(batch)
            labels = label_tensor(batch.labels, found, outputs[0]) if with_labels else None
            return objective(found, wanted, labels)

        steps = options.steps or max(1, round(options.epochs * batches.per_epoch))
        trainer = Trainer(
            nn.ModuleList([module, objective]),
            loss,
            lambda: held_out_divergence(module, teacher_outputs, judged, outputs, options.device),
            batches,
            Schedule(**{**vars(options.schedule), "steps": steps}),
            options.checkpoint,
            progress,
        )
        trained = trainer.train()
    module.to("cpu")
    return Distilled(write_back(student, module) if trained.improved else student, trained, left_out)


class Teacher:
    """Outputs and inner values of a model in ONNX Runtime, as tensors by name."""

    def __init__(self, model: ir.Model, names: Sequence[str], device: str) -> None:
        self.names, self.device = tuple(names), device
        self.session = Session(ending_at(model, names), Runtime(threads=max(1, torch.get_num_threads())))

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the teacher's outputs for one batch."""
        found = self.session.named(batch.feeds)
        return to_tensors({name: _array(found[name]) for name in self.names}, self.device)


def _array(value: Any) -> np.ndarray:
    return np.array([[*row.values()] for row in value], np.float32) if is_map(value) else np.asarray(value)


def held_out_divergence(
    module: TorchModel, teacher_outputs: Teacher, samples: Samples, outputs: Sequence[str], device: str
) -> float:
    """Return the mean divergence of a module's outputs from its teacher's over samples."""
    total, count = 0.0, 0
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for batch in samples.batches():
            size = len(next(iter(batch.feeds.values())))
            found = module(to_tensors(batch.feeds, device))
            total += float(divergence(found, teacher_outputs(batch), outputs)) * size
            count += size
    module.train(was_training)
    return total / max(count, 1)


def require_same_outputs(student: ir.Model, teacher: ir.Model) -> None:
    """Refuse two models that cannot be compared.

    Raises:
        ModelError: ONX308 they differ in inputs or outputs.
    """
    one, other = signature_of(student), signature_of(teacher)
    for kind, a, b in (("inputs", one.inputs, other.inputs), ("outputs", one.outputs, other.outputs)):
        if [s.name for s in a] != [s.name for s in b]:
            raise ModelError(
                "ONX308",
                f"student and teacher have other {kind}",
                why=f"{', '.join(s.name for s in a)} against {', '.join(s.name for s in b)}",
                hint="Rename them in one of the files.",
            )


def compared(student: ir.Model, teacher: ir.Model) -> tuple[str, ...]:
    """Return the outputs, and what flows into nodes through which no gradient passes, where the teacher has it too."""
    module = TorchModel(student, unknown="frozen")
    known = {value.name for node in teacher.graph for value in node.outputs}
    return (*module.output_names, *(n for n in module.boundaries if n in known and n not in module.output_names))


def _usable(losses: Mapping[str, float], features: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the losses that can be computed, and the names of the others.

    Raises:
        ModelError: ONX309 none can.
    """
    least = {"feature": 1, "attention": 1, "flow": 2}
    usable = {name: weight for name, weight in losses.items() if len(features) >= least.get(name, 0)}
    if not usable:
        raise ModelError(
            "ONX309",
            f"nothing to compare for losses={','.join(losses)}",
            why=f"student and teacher have {len(features)} inner values in common",
            hint="Name some with features=[...], or add the response to the losses.",
        )
    return usable, tuple(name for name in losses if name not in usable)


def _features(student: ir.Model, teacher: ir.Model, options: Distillation) -> tuple[str, ...]:
    if not _INNER & options.losses.keys():
        return ()
    if options.features:
        return options.features
    return common_features(student, teacher)
