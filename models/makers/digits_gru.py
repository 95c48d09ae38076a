"""Make digits_gru: a GRU in torch that reads an image row by row, exported for a batch of exactly one."""

import torch
from common import load_split, publish
from torch import Tensor, nn
from torch_training import export_torchscript, scores_of, start, train

ABOUT = """
Two GRU layers of 96 units read an image as a sequence of eight rows; the last state goes through a linear layer. It
was written in torch and exported with the TorchScript exporter for a **fixed batch of 1**, as models for small devices
often are: feed it one image at a time.
"""


class RowGRU(nn.Module):
    """GRU over rows, last state, linear layer."""

    def __init__(self, units: int = 96) -> None:
        super().__init__()
        self.gru = nn.GRU(8, units, num_layers=2, batch_first=True)
        self.classify = nn.Linear(units, 10)

    def forward(self, image: Tensor) -> Tensor:
        states, _ = self.gru(image)
        return self.classify(states[:, -1])


def main() -> None:
    """Train, export, check, write."""
    start(seed=0)
    train_part, _ = load_split("rows")
    net = train(RowGRU(), train_part, epochs=120, peak_rate=6e-3)
    model = export_torchscript(net, torch.zeros(1, 8, 8), opset=17)
    packages = ("torch", "onnx", "onnxruntime", "scikit-learn")
    publish("digits_gru", model, "rows", reference=scores_of(net), about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()
