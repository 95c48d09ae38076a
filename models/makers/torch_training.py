"""Training and export of the torch makers."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import onnx
import torch
from common import Digits, augment
from torch import nn


def train(net: nn.Module, part: Digits, *, epochs: int, peak_rate: float, batch: int = 50) -> nn.Module:
    """Train `net` in place on freshly augmented images each epoch; return it in evaluation mode."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(part.labels)
    steps = epochs * (len(labels) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for _ in range(epochs):
        images = torch.from_numpy(augment(part.images, rng))
        for chosen in torch.from_numpy(rng.permutation(len(labels))).split(batch):
            loss = loss_of(net(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def start(seed: int) -> None:
    """Fix torch's seed and thread count."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)


def scores_of(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to the scores that torch computes."""

    def scores(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    return scores


def export_torchscript(net: nn.Module, example: torch.Tensor, opset: int, **options: object) -> onnx.ModelProto:
    """Export with torch's older exporter; `options` as for `torch.onnx.export`."""
    buffer = io.BytesIO()
    torch.onnx.export(
        net,
        (example,),
        buffer,
        dynamo=False,
        opset_version=opset,
        input_names=["image"],
        output_names=["logits"],
        **options,
    )
    return onnx.load_from_string(buffer.getvalue())
