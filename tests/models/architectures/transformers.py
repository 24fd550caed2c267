"""Decoders of language models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.architectures.registry import Operand, architecture

VOCABULARY = 60
IDS = {"kind": "integers", "low": 0, "high": VOCABULARY}


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[n, length, heads * size] as [n, heads, length, size]."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


class CachedAttention(nn.Module):
    """Causal attention over a past of keys and values, which it returns longer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixed, self.projected = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = (heads_of(part, self.heads) for part in self.mixed(x).chunk(3, -1))
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        new, length = scores.shape[-2:]
        visible = torch.ones(length, length, dtype=torch.bool).tril()[length - new :]
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1)
        joined = (weights @ value).transpose(1, 2).flatten(2)
        return self.projected(joined), torch.stack([key, value])


class Gpt(nn.Module):
    """Learned positions, pre-norm blocks, GELU by tanh, the embedding as the last layer."""

    def __init__(self, width: int = 48, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(64, width)
        self.attentions = nn.ModuleList([CachedAttention(width, heads) for _ in range(layers)])
        self.mlps = nn.ModuleList(
            [
                nn.Sequential(
                    nn.LayerNorm(width),
                    nn.Linear(width, 4 * width),
                    nn.GELU(approximate="tanh"),
                    nn.Linear(4 * width, width),
                )
                for _ in range(layers)
            ]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(layers)])
        self.last = nn.LayerNorm(width)

    def forward(self, ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        start = past.shape[4]
        places = torch.arange(start, start + ids.shape[1])
        x = self.tokens(ids) + self.positions(places)
        presents = []
        for layer, (norm, attention, mlp) in enumerate(zip(self.norms, self.attentions, self.mlps)):
            attended, present = attention(norm(x), past[layer])
            x = x + attended
            x = x + mlp(x)
            presents.append(present)
        return self.last(x) @ self.tokens.weight.T, torch.stack(presents)


@architecture(
    [Operand("ids", ("batch", "new"), IDS, "int64"), Operand("past", (2, 2, "batch", 4, "past", 12))],
    (
        {"batch": 2, "new": 3, "past": 5},
        {"batch": 1, "new": 1, "past": 17},
        {"batch": 3, "new": 7, "past": 0},
    ),
    outputs=("logits", "present"),
)
def gpt() -> nn.Module:
    """A decoder with a cache of keys and values of any length, none included."""
    return Gpt()


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
    """Grouped-query attention with rotary positions, and a gated MLP."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        size = width // heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, n * size, bias=False) for n in (heads, groups, groups, heads)
        )
        self.gate, self.up, self.down = nn.Linear(width, 80), nn.Linear(width, 80), nn.Linear(80, width)
        self.norms = nn.ModuleList([RmsNorm(width), RmsNorm(width)])

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        y = self.norms[0](x)
        query = rotated(heads_of(self.query(y), self.heads), cosine, sine)
        key = rotated(heads_of(self.key(y), self.groups), cosine, sine)
        value = heads_of(self.value(y), self.groups)
        times = self.heads // self.groups
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """RMS norms, rotary positions, grouped heads, SwiGLU."""

    def __init__(self, width: int = 64, heads: int = 4, groups: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList([LlamaBlock(width, heads, groups) for _ in range(layers)])
        self.norm, self.head = RmsNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        size = width // heads
        self.register_buffer("fixed_frequencies", 10000.0 ** (-torch.arange(0, size, 2) / size))

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1]).float()
        angles = places[:, None] * self.get_buffer("fixed_frequencies")
        angles = torch.cat([angles, angles], -1)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin())
        return self.head(self.norm(x))


SEQUENCES = ({"batch": 2, "length": 9}, {"batch": 1, "length": 17}, {"batch": 3, "length": 4})


@architecture([Operand("ids", ("batch", "length"), IDS, "int64")], SEQUENCES, exporter="dynamo", opset=18)
def llama() -> nn.Module:
    """A decoder's prefill, from the exporter's decomposition of attention."""
    return Llama()


@architecture([Operand("ids", ("batch", "length"), IDS, "int64")], SEQUENCES)
def llama_legacy() -> nn.Module:
    """The same from the other exporter, as chains of small operators."""
    return Llama()


class Experts(nn.Module):
    """Each token goes through all experts, weighted by a softmax over its two best."""

    def __init__(self, width: int = 32, experts: int = 4, hidden: int = 48) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.inner = nn.Parameter(torch.zeros(experts, width, hidden))
        self.outer = nn.Parameter(torch.zeros(experts, hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        best, chosen = scores.topk(2, -1)
        weights = torch.zeros_like(scores).scatter(-1, chosen, best.softmax(-1))
        hidden = functional.gelu(x[:, None] @ self.inner)
        return ((hidden @ self.outer) * weights.permute(0, 2, 1)[..., None]).sum(1)


@architecture([Operand("x", ("batch", "length", 32))], SEQUENCES)
def experts() -> nn.Module:
    """A mixture of experts: TopK, scatter, batched products."""
    return Experts()
