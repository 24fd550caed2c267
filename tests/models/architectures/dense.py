"""Tables, texts as bags of words, and graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.models.architectures.registry import Operand, architecture

BATCHES = ({"batch": 4}, {"batch": 1}, {"batch": 33})


@architecture([Operand("x", ("batch", 37))], BATCHES)
def mlp() -> nn.Module:
    """Layers of odd widths with several activations."""
    return nn.Sequential(
        nn.Linear(37, 65),
        nn.ReLU(),
        nn.Linear(65, 48),
        nn.Tanh(),
        nn.Linear(48, 31),
        nn.SELU(),
        nn.Linear(31, 3),
        nn.Softmax(-1),
    )


class Recommender(nn.Module):
    """Embedded categories and dense features that meet in pairwise dot products."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, size), nn.ReLU())
        self.tables = nn.ModuleList([nn.Embedding(rows, size) for rows in (20, 50, 30)])
        rows, columns = torch.tril_indices(4, 4, -1)
        self.register_buffer("pairs", rows * 4 + columns)
        self.top = nn.Sequential(nn.Linear(size + 6, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        dense = self.dense(numbers)
        vectors = torch.stack([dense, *(table(categories[:, i]) for i, table in enumerate(self.tables))], 1)
        products = (vectors @ vectors.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, products[:, self.get_buffer("pairs")]], 1))


@architecture(
    [
        Operand("numbers", ("batch", 13)),
        Operand("categories", ("batch", 3), {"kind": "integers", "low": 0, "high": 20}, "int64"),
    ],
    BATCHES,
)
def recommender() -> nn.Module:
    """Embeddings and feature interaction."""
    return Recommender()


class BagOfWords(nn.Module):
    """The masked mean and maximum of embeddings, and convolutions of several widths over them."""

    def __init__(self, size: int = 24) -> None:
        super().__init__()
        self.tokens = nn.Embedding(60, size)
        self.widths = nn.ModuleList([nn.Conv1d(size, 16, width, padding=width // 2) for width in (3, 5)])
        self.head = nn.Linear(2 * size + 32, 5)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x, kept = self.tokens(ids), mask[..., None]
        mean = (x * kept).sum(1) / kept.sum(1)
        most = x.masked_fill(kept == 0, -1e9).amax(1)
        grams = [torch.relu(conv(x.transpose(1, 2))).amax(2) for conv in self.widths]
        return self.head(torch.cat([mean, most, *grams], 1))


@architecture(
    [
        Operand("ids", ("batch", "length"), {"kind": "integers", "low": 0, "high": 60}, "int64"),
        Operand("mask", ("batch", "length"), {"kind": "lengths"}),
    ],
    ({"batch": 2, "length": 11}, {"batch": 1, "length": 5}, {"batch": 7, "length": 30}),
)
def bag_of_words() -> nn.Module:
    """A text classifier without order."""
    return BagOfWords()


class GraphNet(nn.Module):
    """Messages along edges, weighted by attention over each node's edges, added up at their targets."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, width)
        self.source, self.target = nn.Linear(width, 1), nn.Linear(width, 1)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, nodes: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        x = torch.relu(self.first(nodes))
        scores = nn.functional.leaky_relu(self.source(x)[sources] + self.target(x)[targets], 0.2).exp()
        total = torch.zeros_like(x[:, :1]).index_add(0, targets, scores)
        messages = scores / total[targets] * self.second(x)[sources]
        gathered = torch.zeros_like(x).index_add(0, targets, messages)
        return self.head(torch.cat([x, gathered], 1))


@architecture(
    [
        Operand("nodes", ("nodes", 8)),
        Operand("sources", ("edges",), {"kind": "integers", "low": 0, "high": 5}, "int64"),
        Operand("targets", ("edges",), {"kind": "integers", "low": 0, "high": 5}, "int64"),
    ],
    ({"nodes": 7, "edges": 20}, {"nodes": 5, "edges": 3}, {"nodes": 40, "edges": 65}),
)
def graph() -> nn.Module:
    """Graph attention by gather and scatter-add."""
    return GraphNet()
