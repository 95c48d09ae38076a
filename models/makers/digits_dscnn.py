"""Make digits_dscnn: a depthwise-separable CNN in torch, exported with the dynamo exporter."""

import torch
from common import load_split, publish
from torch import Tensor, nn
from torch_training import scores_of, start, train

ABOUT = """
A depthwise-separable convolutional network: a 3x3 stem, then five blocks, each a 3x3 depthwise and a 1x1 pointwise
convolution, with batch normalization and ReLU6 after every convolution; one block halves the resolution. It was
written in torch and exported with the dynamo exporter, which folds the batch normalizations into the convolutions.
"""


def normed(conv: nn.Conv2d) -> nn.Sequential:
    """Return the convolution followed by batch normalization and ReLU6."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6())


def separable(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution, each normed."""
    return nn.Sequential(
        normed(nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)),
        normed(nn.Conv2d(inner, outer, 1, bias=False)),
    )


class SeparableNet(nn.Module):
    """Stem, separable blocks, pooling, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            normed(nn.Conv2d(1, 64, 3, padding=1, bias=False)),
            separable(64, 96),
            separable(96, 128),
            separable(128, 192, stride=2),
            separable(192, 192),
            separable(192, 192),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(192, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.pool(self.features(image)))


def main() -> None:
    """Train, export, check, write."""
    start(seed=0)
    train_part, _ = load_split("nchw")
    net = train(SeparableNet(), train_part, epochs=40, peak_rate=1e-2)
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        dynamo=True,
        opset_version=20,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    packages = ("torch", "onnxscript", "onnx", "onnxruntime", "scikit-learn")
    publish("digits_dscnn", program.model_proto, "nchw", reference=scores_of(net), about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()
