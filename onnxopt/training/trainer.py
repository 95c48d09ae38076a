"""The loop: steps down a loss, scored on held-out samples along the way, the best weights kept, resumable.

`torchrun` starts several processes of it: each takes its share of every batch, and gradients are averaged over all.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from onnxopt.errors import FileError, ModelError
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.model_file import atomic_write_bytes
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.samples.core import Batch
from onnxopt.training.batches import Batches
from onnxopt.training.course import Course
from onnxopt.training.schedule import Schedule

ALIKE = 1e-6
"""A held-out score below this is rounding, and leaves nothing to learn."""
Loss = Callable[[Batch], Tensor]
"""The mean loss over the samples of a batch."""
Progress = Callable[[int, int], None]
"""Called with how many steps are done and how many there are."""


@dataclass(frozen=True)
class CurvePoint:
    """One look along the way: `loss` is the mean since the last; `score` is on held-out samples, lower is better."""

    step: int
    loss: float
    score: float


@dataclass(frozen=True)
class Trained:
    """The result of a training; the module holds the best weights, which may be the initial ones."""

    history: tuple[CurvePoint, ...]
    before: float
    after: float

    @property
    def improved(self) -> bool:
        """Whether the held-out score got better by more than rounding."""
        return not self.alike and self.after < self.before * (1 - 1e-3)

    @property
    def alike(self) -> bool:
        """Whether there was nothing to learn."""
        return self.before < ALIKE


@dataclass
class Trainer:
    """One training, from the first step to the best weights.

    Attributes:
        module: the module to train, with every parameter that may move.
        loss: the loss of a batch.
        score: the score on held-out samples, lower is better.
        batches: the samples of each step.
        schedule: number of steps and learning rate.
        checkpoint: file that is written at every score, and resumed from where it fits; None for none.
        progress: see `Progress`.
    """

    module: nn.Module
    loss: Loss
    score: Callable[[], float]
    batches: Batches
    schedule: Schedule
    checkpoint: Path | None = None
    progress: Progress | None = None
    _history: list[CurvePoint] = field(default_factory=list)

    def train(self) -> Trained:
        """Train, and leave the best weights in the module."""
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        optimizer = self.schedule.optimizer_of(parameters)
        masks = [_mask(p) for p in parameters]
        before = self.score()
        if before < ALIKE:
            return Trained((), before, before)
        course = Course(before, _copy(self.module), before)
        if (found := self._resumed()) is not None:
            self.module.load_state_dict(found["module"])
            optimizer.load_state_dict(found["optimizer"])
            course = Course(**found["course"])
            self._history = [CurvePoint(*point) for point in found["history"]]
        losses: list[float] = []
        while course.step < self.schedule.steps and course.stale < self.schedule.patience:
            raise_if_interrupted()
            losses.append(self._step(course, optimizer, parameters, masks))
            course.step += 1
            if self.progress is not None:
                self.progress(course.step, self.schedule.steps)
            if not self.schedule.evaluated(course.step):
                continue
            score = self.score()
            self._history.append(CurvePoint(course.step, sum(losses) / len(losses), score))
            losses = []
            if course.leads_away(score):
                self.module.load_state_dict(course.kept)
                optimizer = self.schedule.optimizer_of(parameters)
                course.lower()
            else:
                course.learn(score, _copy(self.module) if score < course.best else None)
            self._save(
                {
                    "module": self.module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "history": [(p.step, p.loss, p.score) for p in self._history],
                    "course": vars(course),
                }
            )
        self.module.load_state_dict(course.kept)
        return Trained(tuple(self._history), course.before, course.best)

    def _step(
        self,
        course: Course,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        masks: list[Tensor | None],
    ) -> float:
        for group in optimizer.param_groups:
            group["lr"] = course.factor * self.schedule.rate(course.step, course.begun)
        optimizer.zero_grad(set_to_none=True)
        total, count = 0.0, 0
        self.module.train()
        for batch in self.batches.at(course.step):
            size = _size(batch)
            with mixed_precision(self.schedule.precision, parameters[0].device):
                loss = self.loss(batch)
            if not loss.requires_grad:
                raise ModelError(
                    "ONX309",
                    "no weight can learn",
                    why="operators without a gradient lie between all of them and the loss",
                    hint="docs/training-ops.md lists those with a gradient; train the model in its own framework.",
                )
            (loss * size).backward()
            total, count = total + float(loss.detach()) * size, count + size
        self.module.eval()
        total, count = _averaged(parameters, total, count)
        nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        optimizer.step()
        with torch.no_grad():
            for parameter, mask in zip(parameters, masks, strict=True):
                if mask is not None:
                    parameter.mul_(mask)
        return total / count

    def _save(self, state: dict[str, Any]) -> None:
        if self.checkpoint is None or self.batches.rank:
            return
        buffer = io.BytesIO()
        torch.save({**state, "fits": self._fits()}, buffer)
        atomic_write_bytes(self.checkpoint, buffer.getvalue(), overwrite=True)

    def _resumed(self) -> dict[str, Any] | None:
        if self.checkpoint is None:
            return None
        refuse_output_file(self.checkpoint, overwrite=True, source=None, kind=self.checkpoint.suffix)
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        except Exception as error:  # torch raises many kinds
            raise FileError(
                "ONX505",
                "the checkpoint cannot be read",
                where=str(self.checkpoint),
                hint="Remove it to start anew.",
            ) from error
        if state.get("fits") != self._fits():
            raise FileError(
                "ONX505",
                "the checkpoint is of another training",
                where=str(self.checkpoint),
                hint="Name another file, or remove it to start anew.",
            )
        return state

    def _fits(self) -> str:
        """Return the settings that must be the same for a checkpoint to be resumed."""
        shapes = [tuple(p.shape) for p in self.module.parameters()]
        data = (len(self.batches.samples), self.batches.seed, tuple(self.batches.augmentations))
        return repr((Course.__name__, self.schedule, data, shapes))


def _averaged(parameters: list[nn.Parameter], total: float, count: int) -> tuple[float, int]:
    """Turn gradients of sums into gradients of the mean over all samples of all processes."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if distributed():
        flat = torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([total, count])])
        dist.all_reduce(flat)
        sizes = [p.numel() for p in parameters]
        *grads, sums = flat.split([*sizes, 2])
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.view_as(parameter)
        total, count = float(sums[0]), round(float(sums[1]))
    for parameter in parameters:
        parameter.grad /= max(count, 1)
    return total, max(count, 1)


def distributed() -> bool:
    """Return whether this is one of several processes that train together."""
    return bool(dist.is_available() and dist.is_initialized())


@contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """Join the processes that `torchrun` started, if it did; yield the number of this one and how many there are."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed():
        yield (dist.get_rank(), dist.get_world_size()) if distributed() else (0, 1)
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def mixed_precision(name: str, device: torch.device) -> Any:
    """Return a context of mixed precision if the user chose it, or it fits the device."""
    mixed = name == "bfloat16" or (name == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if mixed else nullcontext()


def _mask(parameter: nn.Parameter) -> Tensor | None:
    """Return the mask of nonzero weights, because pruned weights stay zero; None if none is zero."""
    kept = parameter.detach() != 0
    return None if parameter.dim() < 2 or bool(kept.all()) else kept.to(parameter.dtype)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def _size(batch: Batch) -> int:
    first = next(iter(batch.feeds.values()))
    return len(first) if first.ndim else 1
