"""Text in images, read by a recurrent network."""

from torch import Tensor, nn

from architectures.blocks import conv_bn


class CRNN(nn.Module):
    """Shi et al., TPAMI 2017: columns of an image are steps of two bidirectional LSTMs."""

    def __init__(self, hidden: int = 48):
        super().__init__()
        self.columns = nn.Sequential(
            *(conv_bn(1, 32), nn.MaxPool2d(2), conv_bn(32, 64), nn.MaxPool2d(2)),
            *(conv_bn(64, 96), nn.MaxPool2d((4, 1))),
        )
        self.first = nn.LSTM(96, hidden, bidirectional=True)
        self.between = nn.Linear(2 * hidden, 64)
        self.second = nn.LSTM(64, hidden, bidirectional=True)
        self.letters = nn.Linear(2 * hidden, 12)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.columns(x).squeeze(2).permute(2, 0, 1)
        return self.letters(self.second(self.between(self.first(steps)[0]))[0]).log_softmax(2)
