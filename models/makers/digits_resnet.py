"""Make digits_resnet: a residual CNN in torch, exported with its batch normalizations unfused."""

import torch
from common import load_split, publish
from torch import Tensor, nn
from torch_training import export_torchscript, scores_of, start, train

ABOUT = """
A residual convolutional network, 64 channels wide at full 8x8 resolution: a stem, three residual blocks of two 3x3
convolutions each, global average pooling and a linear layer. It was written in torch and exported with the TorchScript
exporter in a mode that leaves every `BatchNormalization` (in inference mode) behind its `Conv`, as training frameworks
often do: there is something to fuse, to prune and to quantize. It is the demonstration model of this project.
"""


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (x + self.norm2(self.conv2(y))).relu()


class ResNet(nn.Module):
    """Stem, residual blocks, pooling, linear layer."""

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.pool(self.blocks(self.stem(image))))


def main() -> None:
    """Train, export, check, write."""
    start(seed=0)
    train_part, _ = load_split("nchw")
    net = train(ResNet(), train_part, epochs=25, peak_rate=4e-3)
    model = export_torchscript(
        net,
        torch.zeros(2, 1, 8, 8),
        opset=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    packages = ("torch", "onnx", "onnxruntime", "scikit-learn")
    publish("digits_resnet", model, "nchw", reference=scores_of(net), about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()
