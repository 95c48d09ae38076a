"""Make digits_lstm: a bidirectional LSTM in torch that reads an image row by row."""

import torch
from common import load_split, publish
from torch import Tensor, nn
from torch_training import export_torchscript, scores_of, start, train

ABOUT = """
Two bidirectional LSTM layers of 64 units each way read an image as a sequence of eight rows; the mean over time steps
goes through a linear layer. It was written in torch and exported with the TorchScript exporter with a dynamic batch:
the initial states are made from the batch size by a chain of shape operators.
"""


class RowLSTM(nn.Module):
    """LSTM over rows, mean over time, linear layer."""

    def __init__(self, units: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, units, num_layers=2, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(2 * units, 10)

    def forward(self, image: Tensor) -> Tensor:
        states, _ = self.lstm(image)
        return self.classify(states.mean(dim=1))


def main() -> None:
    """Train, export, check, write."""
    start(seed=0)
    train_part, _ = load_split("rows")
    net = train(RowLSTM(), train_part, epochs=120, peak_rate=6e-3)
    batch_axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    model = export_torchscript(net, torch.zeros(2, 8, 8), opset=17, dynamic_axes=batch_axes)
    packages = ("torch", "onnx", "onnxruntime", "scikit-learn")
    publish("digits_lstm", model, "rows", reference=scores_of(net), about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()
