"""Small Paddle layers to export."""

import numpy as np
import paddle
from paddle import nn


def _floats(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal(shape).astype(np.float32)


class Lstm(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, steps):
        return self.head(self.lstm(steps)[0][:, -1])


class Transformer(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu")
        self.head = nn.Linear(32, 4)

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens)).mean(axis=1))


def mlp():
    paddle.seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return net, _floats(8, 16)


def cnn():
    paddle.seed(0)
    net = nn.Sequential(
        nn.Conv2D(3, 16, 3, padding=1),
        nn.BatchNorm2D(16),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    return net, _floats(8, 3, 16, 16)


def transformer():
    paddle.seed(0)
    return Transformer(), np.random.RandomState(0).randint(0, 50, (8, 12)).astype(np.int64)


def lstm():
    paddle.seed(0)
    return Lstm(), _floats(8, 12, 8)
