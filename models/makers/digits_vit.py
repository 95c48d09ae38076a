"""Make digits_vit: a vision transformer in torch, exported at opset 14 so that norms and GELU are spelled out."""

import torch
from common import load_split, publish
from torch import Tensor, nn
from torch_training import export_torchscript, scores_of, start, train

ABOUT = """
A vision transformer: 2x2 patches make 16 tokens of width 64, followed by four pre-norm layers with four heads, exact
GELU, mean pooling over tokens and a linear layer. It was written in torch and exported with the TorchScript exporter
at opset 14, which has neither `LayerNormalization` nor `Gelu`: both are spelled out in small operators (`ReduceMean`,
`Pow`, `Sqrt`, `Erf`, ...), and the shapes of the attention heads are computed from the batch size.
"""


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        shape = (batch, tokens, self.heads, width // self.heads)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        weights = (query @ key.transpose(-2, -1) * shape[-1] ** -0.5).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.perceptron(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patch embedding, layers, mean pooling, linear layer."""

    def __init__(self, width: int = 64, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, kernel_size=2, stride=2)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embed(image).flatten(2).transpose(1, 2) + self.position
        return self.classify(self.norm(self.layers(tokens)).mean(dim=1))


def main() -> None:
    """Train, export, check, write."""
    start(seed=0)
    train_part, _ = load_split("nchw")
    net = train(VisionTransformer(), train_part, epochs=120, peak_rate=1.5e-3)
    batch_axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    model = export_torchscript(net, torch.zeros(2, 1, 8, 8), opset=14, dynamic_axes=batch_axes)
    packages = ("torch", "onnx", "onnxruntime", "scikit-learn")
    publish("digits_vit", model, "nchw", reference=scores_of(net), about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()
