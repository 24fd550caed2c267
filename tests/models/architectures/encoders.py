"""Transformers that see everything at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.architectures.convolutional import BATCHES
from tests.models.architectures.registry import Operand, architecture
from tests.models.architectures.transformers import IDS, SEQUENCES, VOCABULARY, heads_of


class Attention(nn.Module):
    """Attention of `x` to `memory` (itself by default); `mask` is added to the scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        source = x if memory is None else memory
        query, key, value = (
            heads_of(layer(y), self.heads)
            for layer, y in ((self.query, x), (self.key, source), (self.value, source))
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + mask
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and MLP, each with a norm before or after."""

    def __init__(self, width: int, heads: int, before: bool) -> None:
        super().__init__()
        self.before = before
        self.attention = Attention(width, heads)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.before:
            x = x + self.attention(self.norms[0](x), mask=mask)
            return x + self.mlp(self.norms[1](x))
        x = self.norms[0](x + self.attention(x, mask=mask))
        return self.norms[1](x + self.mlp(x))


class Bert(nn.Module):
    """Token, type and position embeddings, post-norm blocks with a padding mask, a pooled output."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.tokens, self.types = nn.Embedding(VOCABULARY, width), nn.Embedding(2, width)
        self.positions, self.norm = nn.Embedding(64, width), nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList([Block(width, 4, False) for _ in range(2)])
        self.pooler = nn.Linear(width, width)

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(ids.shape[1])[None]
        x = self.norm(self.tokens(ids) + self.types(types) + self.positions(places))
        hidden = (1.0 - mask[:, None, None].float()) * torch.finfo(torch.float32).min
        for block in self.blocks:
            x = block(x, hidden)
        return x, self.pooler(x[:, 0]).tanh()


@architecture(
    [
        Operand("ids", ("batch", "length"), IDS, "int64"),
        Operand("mask", ("batch", "length"), {"kind": "lengths"}, "int64"),
        Operand("types", ("batch", "length"), {"kind": "integers", "low": 0, "high": 2}, "int64"),
    ],
    SEQUENCES,
    outputs=("hidden", "pooled"),
)
def bert() -> nn.Module:
    """An encoder with padding."""
    return Bert()


class Vit(nn.Module):
    """Patches as tokens, a class token, pre-norm blocks."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token, self.places = (
            nn.Parameter(torch.zeros(1, 1, width)),
            nn.Parameter(torch.zeros(1, 17, width)),
        )
        self.blocks = nn.ModuleList([Block(width, 3, True) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


@architecture([Operand("image", ("batch", 3, 32, 32))], BATCHES, exporter="dynamo", opset=18)
def vit() -> nn.Module:
    """An image classifier without convolutions, but for its patches."""
    return Vit()


class Windows(nn.Module):
    """Attention within windows of 4 x 4, the second time shifted by half a window, then merged patches."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, width, 2, 2), nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, 2, True) for _ in range(2)])
        self.bias = nn.Parameter(torch.zeros(2, 16, 16))
        self.merge, self.head = nn.Linear(4 * width, 2 * width, bias=False), nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.patches(image).permute(0, 2, 3, 1))
        batch, height, width, channels = x.shape
        for shift, block in zip((0, 2), self.blocks):
            x = x.roll((-shift, -shift), (1, 2))
            x = x.view(batch, height // 4, 4, width // 4, 4, channels).transpose(2, 3)
            x = block(x.reshape(-1, 16, channels), self.bias)
            x = x.view(batch, height // 4, width // 4, 4, 4, channels).transpose(2, 3)
            x = x.reshape(batch, height, width, channels).roll((shift, shift), (1, 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.head(functional.relu(self.merge(torch.cat(corners, -1))).mean((1, 2)))


@architecture([Operand("image", ("batch", 3, 24, 16))], BATCHES)
def swin() -> nn.Module:
    """Window partition, shifts and patch merging."""
    return Windows()


class Translator(nn.Module):
    """A decoder that attends to itself, causally, and to an encoded memory with a mask."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens, self.encoder = nn.Embedding(VOCABULARY, width), Block(width, 4, True)
        self.decoder, self.across, self.norm = Block(width, 4, True), Attention(width, 4), nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, memory: Tensor, seen: Tensor, ids: Tensor) -> Tensor:
        hidden = torch.where(seen[:, None, None], 0.0, float("-inf"))
        memory = self.encoder(memory, hidden)
        length = ids.shape[1]
        causal = torch.full((length, length), float("-inf")).triu(1)
        x = self.decoder(self.tokens(ids), causal)
        return functional.log_softmax(self.head(x + self.across(self.norm(x), memory, hidden)), -1)


@architecture(
    [
        Operand("memory", ("batch", "source", 32)),
        Operand("seen", ("batch", "source"), {"kind": "lengths"}, "bool"),
        Operand("ids", ("batch", "target"), IDS, "int64"),
    ],
    (
        {"batch": 2, "source": 7, "target": 5},
        {"batch": 1, "source": 12, "target": 1},
        {"batch": 3, "source": 3, "target": 11},
    ),
)
def translator() -> nn.Module:
    """An encoder and a decoder with cross attention."""
    return Translator()


class ConformerBlock(nn.Module):
    """Half an MLP, attention, a gated depthwise convolution over time, half an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            [
                nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
                )
                for _ in range(2)
            ]
        )
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, 4)
        self.convolution = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(1),
            nn.Conv1d(width, width, 7, padding=3, groups=width),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
        )
        self.last = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.halves[0](x)
        x = x + self.attention(self.norm(x))
        x = x + self.convolution(x.transpose(1, 2)).transpose(1, 2)
        return self.last(x + 0.5 * self.halves[1](x))


class Conformer(nn.Module):
    """Speech: subsampled features, a conformer block, scores of characters."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.sub = nn.Sequential(
            nn.Conv1d(20, width, 3, 2, 1), nn.ReLU(), nn.Conv1d(width, width, 3, 2, 1), nn.ReLU()
        )
        self.block, self.head = ConformerBlock(width), nn.Linear(width, 30)

    def forward(self, features: Tensor) -> Tensor:
        x = self.sub(features.transpose(1, 2)).transpose(1, 2)
        return functional.log_softmax(self.head(self.block(x)), -1)


@architecture(
    [Operand("features", ("batch", "frames", 20))],
    ({"batch": 2, "frames": 30}, {"batch": 1, "frames": 61}, {"batch": 3, "frames": 8}),
)
def conformer() -> nn.Module:
    """Convolutions over a time axis of any length."""
    return Conformer()
