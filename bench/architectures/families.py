"""Every family by name, what it is fed, and how it becomes an ONNX file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from architectures import attention, convolutional, detection, language, mobile, recurrent, residual, segmentation
from architectures.blocks import randomized

EXPORTERS = ("dynamo", "torchscript")
_TRACED_BATCH = 2


Feed = Callable[[int, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Family:
    """A network and its inputs.

    Attributes:
        build: makes the network; weights come from torch's generator.
        feeds: makes the inputs for a batch, by name.
        free: further free dimensions of every input, beside the batch.
    """

    build: Callable[[], nn.Module]
    feeds: Feed
    free: Mapping[int, str] = field(default_factory=dict)


def _image(side: int, channels: int = 3, width: int | None = None) -> Feed:
    return lambda n, g: {"image": torch.randn(n, channels, side, width or side, generator=g)}


def _ids(n: int, g: torch.Generator) -> dict[str, Tensor]:
    return {"ids": torch.randint(0, language.VOCABULARY, (n, 8 + n), generator=g)}


def _ids_and_mask(n: int, g: torch.Generator) -> dict[str, Tensor]:
    ids = _ids(n, g)
    mask = torch.ones_like(ids["ids"])
    mask[-1, -3:] = 0
    return {**ids, "mask": mask}


_TEXT = MappingProxyType({1: "sequence"})
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "vgg": Family(convolutional.vgg, _image(32)),
        "resnet-basic": Family(residual.resnet_basic, _image(32)),
        "resnet-bottleneck": Family(residual.resnet_bottleneck, _image(32)),
        "resnext": Family(residual.resnext, _image(32)),
        "densenet": Family(convolutional.densenet, _image(32)),
        "googlenet": Family(convolutional.googlenet, _image(32)),
        "mobilenet-v2": Family(mobile.mobilenet_v2, _image(32)),
        "mobilenet-v3": Family(mobile.mobilenet_v3, _image(32)),
        "efficientnet": Family(mobile.efficientnet, _image(32)),
        "shufflenet-v2": Family(mobile.shufflenet_v2, _image(32)),
        "regnet": Family(residual.regnet, _image(32)),
        "convnext": Family(residual.convnext, _image(32)),
        "u-net": Family(segmentation.UNet, _image(32)),
        "super-resolution": Family(convolutional.SuperResolution, _image(16)),
        "yolo": Family(detection.Yolo, _image(64)),
        "vit": Family(attention.ViT, _image(32)),
        "swin": Family(attention.Swin, _image(32)),
        "bert": Family(language.Bert, _ids_and_mask, _TEXT),
        "gpt2": Family(language.Gpt2, _ids, _TEXT),
        "llama": Family(language.Llama, _ids, _TEXT),
        "crnn": Family(recurrent.CRNN, _image(16, 1, 64)),
    }
)


def export(family: Family, exporter: str, path: Path, seed: int = 0) -> nn.Module:
    """Write the family's network with a free batch and return it.

    Args:
        family: what to build.
        exporter: one of `EXPORTERS`, torch's two ways to ONNX.
        path: file to write.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    module = randomized(family.build(), seed)
    feeds = family.feeds(_TRACED_BATCH, torch.Generator().manual_seed(seed))
    free = {0: "batch", **family.free}
    options = (
        {"dynamo": True, "dynamic_shapes": tuple(free for _ in feeds), "external_data": False, "verbose": False}
        if exporter == "dynamo"
        else {"dynamo": False, "dynamic_axes": dict.fromkeys(feeds, free) | {"output": {0: "batch"}}}
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, tuple(feeds.values()), str(path), input_names=list(feeds), output_names=["output"], **options
        )
    return module
