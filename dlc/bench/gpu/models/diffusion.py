"""A U-Net that takes noise out of latent images, told the time and a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.bench.gpu.models.encoders import heads_of, joined
from dlc.bench.gpu.models.workload import Workload


class Residual(nn.Module):
    """Two convolutions behind group norms; the time is added between them."""

    def __init__(self, inputs: int, outputs: int, time: int, groups: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)])
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        before, between = self.norms
        y = self.first(functional.silu(before(x))) + self.time(time)[:, :, None, None]
        result: Tensor = self.shortcut(x) + self.second(functional.silu(between(y)))
        return result


class Attention(nn.Module):
    """Attention to `source`, which may be the queries' own positions."""

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.key, self.value = (nn.Linear(source, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        parts = (self.query(x), self.key(source), self.value(source))
        query, key, value = (heads_of(part, self.heads) for part in parts)
        result: Tensor = self.out(joined(functional.scaled_dot_product_attention(query, key, value)))
        return result


class SpatialTransformer(nn.Module):
    """Attention among positions, attention to the text, a perceptron."""

    def __init__(self, channels: int, text: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.inside, self.outside = (nn.Linear(channels, channels) for _ in range(2))
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(3)])
        self.own, self.cross = Attention(channels, channels, heads), Attention(channels, text, heads)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        first, second, third = self.norms
        y = self.inside(self.norm(x).flatten(2).transpose(1, 2))
        own = first(y)
        y = y + self.own(own, own)
        y = y + self.cross(second(y), text)
        y = y + self.mlp(third(y))
        result: Tensor = x + self.outside(y).transpose(1, 2).reshape(x.shape)
        return result


class UNet(nn.Module):
    """Levels of halved size and more channels, and back with what each level kept (R. Rombach et al., 2022).

    All levels but the first attend to themselves and to the text.
    """

    def __init__(
        self, widths: Sequence[int] = (192, 384, 768), blocks: int = 2, text: int = 768, groups: int = 32
    ) -> None:
        super().__init__()
        self.base = widths[0]
        time = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.first = nn.Conv2d(4, widths[0], 3, padding=1)

        def transformer(width: int, level: int) -> nn.Module | None:
            return SpatialTransformer(width, text, max(1, width // 64), groups) if level else None

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.down_attention, self.up_attention = nn.ModuleList(), nn.ModuleList()
        kept = [widths[0]]
        inputs = widths[0]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Residual(inputs, width, time, groups))
                self.down_attention.append(transformer(width, level) or nn.Identity())
                inputs = width
                kept.append(width)
            if level + 1 < len(widths):
                self.down.append(nn.Conv2d(width, width, 3, 2, 1))
                self.down_attention.append(nn.Identity())
                kept.append(width)
        self.middle = nn.ModuleList([Residual(inputs, inputs, time, groups) for _ in range(2)])
        self.middle_attention = SpatialTransformer(inputs, text, max(1, inputs // 64), groups)
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(Residual(inputs + kept.pop(), width, time, groups))
                self.up_attention.append(transformer(width, level) or nn.Identity())
                inputs = width
            if level:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
                self.up_attention.append(nn.Identity())
        self.last = nn.Sequential(nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv2d(inputs, 4, 3, padding=1))

    def forward(self, latent: Tensor, step: Tensor, text: Tensor) -> Tensor:
        half = self.base // 2
        scale = torch.arange(half, device=latent.device, dtype=latent.dtype) / half
        angles = step[:, None] * torch.exp(-math.log(10000.0) * scale)
        time = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        x = self.first(latent)
        kept = [x]
        for part, attention in zip(self.down, self.down_attention):
            x = self._through(part, attention, x, time, text)
            kept.append(x)
        x = self.middle[0](x, time)
        x = self.middle[1](self.middle_attention(x, text), time)
        for part, attention in zip(self.up, self.up_attention):
            if isinstance(part, Residual):
                x = torch.cat([x, kept.pop()], 1)
            else:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self._through(part, attention, x, time, text)
        result: Tensor = self.last(x)
        return result

    def _through(
        self, part: nn.Module, attention: nn.Module, x: Tensor, time: Tensor, text: Tensor
    ) -> Tensor:
        x = part(x, time) if isinstance(part, Residual) else part(x)
        return attention(x, text) if isinstance(attention, SpatialTransformer) else x


def noise(batch: int, tiny: bool) -> dict[str, Tensor]:
    """Latents of a 512x512 image, the time, and 77 vectors of text."""
    side, length, text = (8, 5, 16) if tiny else (64, 77, 768)
    return {
        "latent": torch.randn(batch, 4, side, side),
        "step": torch.full((batch,), 500.0),
        "text": torch.randn(batch, length, text),
    }


WORKLOADS = (Workload("unet", lambda tiny: UNet((16, 32), 1, 16, 4) if tiny else UNet(), noise),)
