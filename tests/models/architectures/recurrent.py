"""Networks with a state, and causal convolutions that do without one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.models.architectures.registry import Operand, architecture
from tests.models.architectures.transformers import IDS, VOCABULARY

SERIES = ({"batch": 2, "length": 9}, {"batch": 1, "length": 23}, {"batch": 5, "length": 1})


class Tagger(nn.Module):
    """Two bidirectional LSTM layers and a score for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 20, 2, batch_first=True, bidirectional=True), nn.Linear(40, 6)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0])


@architecture([Operand("series", ("batch", "length", 12))], SERIES)
def lstm() -> nn.Module:
    """A bidirectional tagger."""
    return Tagger()


class Characters(nn.Module):
    """A GRU over characters that takes and gives back its state."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.gru = nn.Embedding(VOCABULARY, 16), nn.GRU(16, 24, 2)
        self.head = nn.Linear(24, VOCABULARY)

    def forward(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, state = self.gru(self.tokens(ids), state)
        return self.head(hidden), state


@architecture(
    [Operand("ids", ("length", "batch"), IDS, "int64"), Operand("state", (2, "batch", 24))],
    SERIES,
    outputs=("logits", "next"),
)
def gru() -> nn.Module:
    """A language model that is called step by step."""
    return Characters()


class Causal(nn.Module):
    """A dilated convolution that sees no future, with a gate, a residual and a skip."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.gap = 2 * dilation
        self.filter = nn.Conv1d(channels, 2 * channels, 3, dilation=dilation)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = self.filter(nn.functional.pad(x, (self.gap, 0)))
        left, right = both.chunk(2, 1)
        return x + self.out(left.tanh() * right.sigmoid())


@architecture(
    [Operand("signal", ("batch", 1, "length"))],
    ({"batch": 2, "length": 50}, {"batch": 1, "length": 131}, {"batch": 3, "length": 7}),
)
def wavenet() -> nn.Module:
    """Dilated causal convolutions over a signal of any length."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 1), Causal(16, 1), Causal(16, 2), Causal(16, 8), nn.ReLU(), nn.Conv1d(16, 1, 1)
    )


class Mosaic(nn.Module):
    """A convolutional front, a GRU over its frames, attention pooling over time."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d((1, 2)))
        self.gru, self.score, self.head = nn.GRU(80, 24, batch_first=True), nn.Linear(24, 1), nn.Linear(24, 4)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.front(frames[:, None]).permute(0, 2, 1, 3).flatten(2)
        hidden = self.gru(x)[0]
        weights = torch.softmax(self.score(hidden), 1)
        return self.head((weights * hidden).sum(1))


@architecture([Operand("frames", ("batch", "length", 10))], SERIES)
def crnn() -> nn.Module:
    """Convolutional and recurrent: a keyword spotter."""
    return Mosaic()
