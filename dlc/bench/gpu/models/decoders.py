"""GPT-2 and a small Llama: prefill, and one step of decoding over a cache of keys and values.

A cache is one tensor [layers, 2, batch, heads, length, size]; a model returns what the new tokens add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.bench.gpu.models.encoders import embedding, heads_of, joined
from dlc.bench.gpu.models.workload import Workload


def attend(query: Tensor, key: Tensor, value: Tensor, past: Tensor | None) -> Tensor:
    """Causal attention without a past; with one, a single new token sees everything."""
    if past is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    times = query.shape[1] // key.shape[1]
    if times > 1:
        key, value = (repeated(part, times) for part in (key, value))
    return joined(functional.scaled_dot_product_attention(query, key, value, is_causal=past is None))


def repeated(x: Tensor, times: int) -> Tensor:
    """Each head `times` times."""
    batch, heads, length, size = x.shape
    return x[:, :, None].expand(batch, heads, times, length, size).flatten(1, 2)


class GptBlock(nn.Module):
    """Attention and perceptron behind norms, GELU by tanh."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.mixed, self.projected = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        first, second = self.norms
        mixed = self.mixed(first(x))
        query, key, value = (heads_of(part, self.heads) for part in mixed.chunk(3, -1))
        x = x + self.projected(attend(query, key, value, past))
        return x + self.mlp(second(x)), torch.stack([key, value])


class Gpt2(nn.Module):
    """GPT-2 (A. Radford et al., 2019); the defaults are its smallest. Logits are those of the last token."""

    def __init__(
        self, vocabulary: int = 50257, width: int = 768, layers: int = 12, heads: int = 12, places: int = 1024
    ) -> None:
        super().__init__()
        self.tokens, self.places = embedding(vocabulary, width), embedding(places, width)
        self.blocks = nn.ModuleList([GptBlock(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        start = 0 if past is None else past.shape[4]
        x = self.tokens(ids) + self.places.weight[start : start + ids.shape[1]]
        added = []
        for index, block in enumerate(self.blocks):
            x, new = block(x, None if past is None else past[index])
            added.append(new)
        return self.norm(x[:, -1]) @ self.tokens.weight.T, torch.stack(added)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), scaled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding: pairs (i, i + size / 2) turned by their angles."""
    low, high = x.chunk(2, -1)
    return x * cosine + torch.cat([-high, low], -1) * sine


class LlamaBlock(nn.Module):
    """Grouped-query attention with rotary positions, and a gated perceptron."""

    def __init__(self, width: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        shared = width // heads * groups
        self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(width, shared, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.norms = nn.ModuleList([RmsNorm(width), RmsNorm(width)])

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        first, second = self.norms
        y = first(x)
        query = rotated(heads_of(self.query(y), self.heads), cosine, sine)
        key = rotated(heads_of(self.key(y), self.groups), cosine, sine)
        value = heads_of(self.value(y), self.groups)
        x = x + self.out(attend(query, key, value, past))
        y = second(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y)), torch.stack([key, value])


class Llama(nn.Module):
    """Llama (H. Touvron et al., 2023) with grouped heads; the defaults have 156 million parameters."""

    def __init__(
        self,
        vocabulary: int = 32000,
        width: int = 1024,
        layers: int = 8,
        heads: int = 16,
        groups: int = 4,
        hidden: int = 2816,
        places: int = 2048,
    ) -> None:
        super().__init__()
        self.tokens, self.head = embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        self.blocks = nn.ModuleList([LlamaBlock(width, heads, groups, hidden) for _ in range(layers)])
        self.norm = RmsNorm(width)
        size = width // heads
        frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(places), torch.cat([frequencies, frequencies]))
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, ids: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        start = 0 if past is None else past.shape[4]
        end = start + ids.shape[1]
        cosine, sine = self.get_buffer("cosines")[start:end], self.get_buffer("sines")[start:end]
        x = self.tokens(ids)
        added = []
        for index, block in enumerate(self.blocks):
            x, new = block(x, cosine, sine, None if past is None else past[index])
            added.append(new)
        return self.head(self.norm(x[:, -1])), torch.stack(added)


def prompt(vocabulary: int, length: int) -> Callable[[int, bool], Mapping[str, Tensor]]:
    """Tokens without a past."""

    def draw(batch: int, tiny: bool) -> dict[str, Tensor]:
        return {"ids": torch.randint(50 if tiny else vocabulary, (batch, 16 if tiny else length))}

    return draw


def step(
    vocabulary: int, length: int, layers: int, heads: int, tiny_heads: int
) -> Callable[[int, bool], Mapping[str, Tensor]]:
    """One token, and the cache of `length` before it."""

    def draw(batch: int, tiny: bool) -> dict[str, Tensor]:
        ids = torch.randint(50 if tiny else vocabulary, (batch, 1))
        shape = (1, 2, batch, tiny_heads, 15, 16) if tiny else (layers, 2, batch, heads, length, 64)
        return {"ids": ids, "past": torch.randn(shape)}

    return draw


def gpt2(tiny: bool) -> nn.Module:
    """GPT-2, or a very small one."""
    return Gpt2(50, 32, 1, 2, 32) if tiny else Gpt2()


RESULTS = ("logits", "added")
WORKLOADS = (
    Workload("gpt2_prefill", gpt2, prompt(50257, 512), RESULTS),
    Workload("gpt2_decode", gpt2, step(50257, 512, 12, 12, 2), RESULTS),
    Workload(
        "llama_decode",
        lambda tiny: Llama(50, 32, 1, 2, 1, 48, 32) if tiny else Llama(),
        step(32000, 512, 8, 4, 1),
        RESULTS,
    ),
)
