"""Length and learning rate of a training."""

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training.

    Attributes:
        steps: the steps of the optimizer.
        batch_size: samples per step, where the model's own batch size allows.
        lr: the highest learning rate; it rises linearly for `warmup` of the steps and falls to zero by a half cosine.
            It is lowered where it leads away from a good start (`onnxopt.training.course`).
        warmup: share of the steps.
        optimizer: `adamw` or `sgd` (with Nesterov momentum of 0.9).
        weight_decay: the weight decay of the optimizer.
        clip: largest norm of the gradient.
        precision: the number type of products on the way forward and back; weights and their sums are always float32.
            `auto` is bfloat16 on a GPU.
        evaluations: times the held-out part is scored along the way, the end included.
        patience: evaluations without a better score after which training ends; many, because the best ones come late,
            when the rate is low.

    Source: Loshchilov and Hutter, "SGDR", 2017, and "Decoupled weight decay regularization", 2019.
    """

    steps: int
    batch_size: int = 64
    lr: float = 1e-3
    warmup: float = 0.05
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    clip: float = 1.0
    precision: str = "auto"
    evaluations: int = 20
    patience: int = 12

    def rate(self, step: int, begun: int = 0) -> float:
        """Return the learning rate of step 0, 1, ..., in a course that began at the step `begun` and takes the rest."""
        steps, step = self.steps - begun, step - begun
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def optimizer_of(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return a new optimizer."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def evaluated(self, step: int) -> bool:
        """Return whether the held-out part is scored after `step` steps."""
        every = max(1, math.ceil(self.steps / max(1, self.evaluations)))
        return step % every == 0 or step == self.steps
