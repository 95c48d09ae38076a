"""A quantized model learns from its teacher while it computes with the integers that it will have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.errors import ModelError
from onnxopt.graph.weights.quantized import quantized_weights
from onnxopt.measure.runtime.activations import Activations
from onnxopt.samples import Samples
from onnxopt.samples.core import Batch
from onnxopt.training.batches import Batches, split_held_out
from onnxopt.training.distill import Teacher, held_out_divergence, require_same_outputs
from onnxopt.training.fake_quantized import FakeQuantized, write_integers
from onnxopt.training.objective import Objective
from onnxopt.training.ops.convert import to_array, to_tensors
from onnxopt.training.schedule import Schedule
from onnxopt.training.trainer import Trained, Trainer, processes

_SAME = 0.05
"""Root of the mean square by which torch may differ from ONNX Runtime, relative to the outputs.

Values on the border of two integers may fall either way, in few elements, so that the largest difference says little.
"""


@dataclass(frozen=True)
class QatTraining:
    """Options of training a quantized model.

    Attributes:
        epochs: number of passes over the samples, when `steps` is 0.
        steps: number of optimizer steps, in place of `epochs`.
        schedule: learning rate and batch size of the steps; its own number of steps does not count.
        learn_scales: whether scales are trained too.
        temperature: softmax temperature.
        augmentations: see `onnxopt.training.augment`.
        held_out: share of the samples held out to judge the result.
        device: torch device.
    """

    epochs: float = 10.0
    steps: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(1, lr=1e-4))
    learn_scales: bool = True
    temperature: float = 4.0
    augmentations: tuple[str, ...] = ()
    held_out: float = 0.1
    device: str = "cpu"


def train_quantized(
    student: ir.Model,
    teacher: ir.Model,
    samples: Samples,
    options: QatTraining,
    *,
    masters: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ir.Model, Trained | None]:
    """Return the trained quantized `student`, and the course of training; None where there were too few samples.

    Args:
        student: the model, as static quantization with QDQ writes it.
        teacher: the float model.
        samples: labels are not used.
        options: see `QatTraining`.
        masters: float weights that the integers come from, by the names of the integers.
        seed: random seed.
        progress: see `Trainer`.

    Raises:
        ModelError: ONX308 the two have other inputs or outputs, ONX309 there is nothing to train, ONX310 torch computes
            something else than ONNX Runtime.
    """
    require_same_outputs(student, teacher)
    if not quantized_weights(student):
        raise ModelError("ONX309", "the model has no quantized weights to train", hint="Run quantize-static first.")
    parts = split_held_out(samples, options.held_out, seed)
    if parts is None:
        return student, None
    learned, judged = parts
    module = FakeQuantized(student, masters or {}, learn_scales=options.learn_scales).eval()
    names = module.output_names
    _check(student, module, judged)
    module.to(options.device)
    teacher_outputs = Teacher(teacher, names, options.device)
    objective = Objective(names, (), {"response": 1.0}, temperature=options.temperature)

    def loss(batch: Batch) -> Tensor:
        found: Tensor = objective(module(to_tensors(batch.feeds, options.device)), teacher_outputs(batch))
        return found

    with processes() as (rank, world):
        torch.manual_seed(seed)
        batches = Batches(learned, options.schedule.batch_size, seed, options.augmentations, rank, world)
        steps = options.steps or max(1, round(options.epochs * batches.per_epoch))
        trained = Trainer(
            module,
            loss,
            lambda: held_out_divergence(module, teacher_outputs, judged, names, options.device),
            batches,
            Schedule(**{**vars(options.schedule), "steps": steps}),
            progress=progress,
        ).train()
    module.to("cpu")
    return write_integers(student, module) if trained.improved else student, trained


def _check(student: ir.Model, module: FakeQuantized, samples: Samples) -> None:
    names = module.output_names
    feeds = next(iter(samples))
    expected = next(Activations(student, names).of([feeds]))
    with torch.no_grad():
        found = {name: to_array(tensor) for name, tensor in module(to_tensors(feeds)).items()}
    for name in names:
        one, other = expected[name].astype(np.float64), found[name].astype(np.float64)
        same = one.shape == other.shape
        error = float(np.sqrt(np.mean((one - other) ** 2) / (np.mean(one**2) + 1e-12))) if same else float("inf")
        if not error <= _SAME:
            raise ModelError(
                "ONX310",
                "the trained form of the model gives other outputs than ONNX Runtime",
                where=f"output {name}",
                why=f"the outputs differ by {error:.1e} of their size, {_SAME:.0e} is allowed",
                hint="Leave training out for this model, and please report it.",
            )
