"""ViT-B/16 and BERT-base."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.bench.gpu.models.convolutional import images
from dlc.bench.gpu.models.workload import Workload


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of all positions to all that the mask shows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixed, self.projected = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (heads_of(part, self.heads) for part in self.mixed(x).chunk(3, -1))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.projected(joined(attended))
        return result


def perceptron(width: int) -> nn.Sequential:
    """The two layers beside attention."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class EncoderBlock(nn.Module):
    """Attention and perceptron; norms stand before them, or after the sums."""

    def __init__(self, width: int, heads: int, eps: float, norm_first: bool) -> None:
        super().__init__()
        self.attention, self.mlp = SelfAttention(width, heads), perceptron(width)
        self.norms = nn.ModuleList([nn.LayerNorm(width, eps=eps) for _ in range(2)])
        self.norm_first = norm_first

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        first, second = self.norms
        if self.norm_first:
            x = x + self.attention(first(x), mask)
            result: Tensor = x + self.mlp(second(x))
        else:
            x = first(x + self.attention(x, mask))
            result = second(x + self.mlp(x))
        return result


class VisionTransformer(nn.Module):
    """A transformer over patches (A. Dosovitskiy et al., 2021); the defaults are ViT-B/16."""

    def __init__(
        self,
        side: int = 224,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList([EncoderBlock(width, heads, 1e-6, True) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(image.shape[0], -1, -1), patches], 1) + self.places
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.head(self.norm(x)[:, 0])
        return result


def embedding(count: int, width: int) -> nn.Embedding:
    """A table of small vectors, as language models begin with."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


class Bert(nn.Module):
    """BERT (J. Devlin et al., 2019) with its pooler; the defaults are BERT-base."""

    def __init__(
        self, vocabulary: int = 30522, width: int = 768, layers: int = 12, heads: int = 12, places: int = 512
    ) -> None:
        super().__init__()
        self.tokens, self.places = embedding(vocabulary, width), embedding(places, width)
        self.segments = embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList([EncoderBlock(width, heads, 1e-12, False) for _ in range(layers)])
        self.pooler = nn.Linear(width, width)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        places = self.places.weight[: ids.shape[1]]
        x = self.norm(self.tokens(ids) + places + self.segments.weight[0])
        shown = mask[:, None, None, :] > 0
        for block in self.blocks:
            x = block(x, shown)
        return x, torch.tanh(self.pooler(x[:, 0]))


def sentences(batch: int, tiny: bool) -> dict[str, Tensor]:
    """128 tokens without padding."""
    length, vocabulary = (16, 50) if tiny else (128, 30522)
    ids = torch.randint(vocabulary, (batch, length))
    return {"ids": ids, "mask": torch.ones_like(ids)}


WORKLOADS = (
    Workload(
        "vit_b16",
        lambda tiny: VisionTransformer(32, 16, 32, 1, 2, 10) if tiny else VisionTransformer(),
        images,
    ),
    Workload(
        "bert_base",
        lambda tiny: Bert(50, 32, 1, 2, 16) if tiny else Bert(),
        sentences,
        ("hidden", "pooled"),
    ),
)
