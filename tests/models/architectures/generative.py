"""Models that make images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.architectures.convolutional import BATCHES
from tests.models.architectures.registry import Operand, architecture


class StyleResidual(nn.Module):
    """Two reflection-padded convolutions with instance norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@architecture(
    [Operand("image", ("batch", 3, "height", "width"))],
    (
        {"batch": 1, "height": 24, "width": 32},
        {"batch": 2, "height": 22, "width": 18},
        {"batch": 1, "height": 48, "width": 12},
    ),
)
def style_transfer() -> nn.Module:
    """Reflection padding, instance norm and nearest upsampling at any size."""
    return nn.Sequential(
        nn.ReflectionPad2d(4),
        nn.Conv2d(3, 16, 9),
        nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.InstanceNorm2d(32, affine=True),
        nn.ReLU(),
        StyleResidual(32),
        nn.Upsample(scale_factor=2.0, mode="nearest"),
        nn.ReflectionPad2d(1),
        nn.Conv2d(32, 16, 3),
        nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(),
        nn.ReflectionPad2d(4),
        nn.Conv2d(16, 3, 9),
        nn.Tanh(),
    )


class Diffusion(nn.Module):
    """One denoising step: group norms, SiLU, an embedding of time, attention over positions."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, channels))
        self.norms = nn.ModuleList([nn.GroupNorm(4, channels) for _ in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)])
        self.mixed, self.projected = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, image: Tensor, step: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(1000.0) * torch.arange(8) / 8)
        angles = step[:, None].float() * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x = self.first(image)
        y = self.convs[0](functional.silu(self.norms[0](x))) + time[:, :, None, None]
        x = x + self.convs[1](functional.silu(self.norms[1](y)))
        query, key, value = self.mixed(self.norms[2](x).flatten(2)).chunk(3, 1)
        scores = (query.transpose(1, 2) @ key) * query.shape[1] ** -0.5
        attended = value @ scores.softmax(-1).transpose(1, 2)
        return self.last(x + self.projected(attended).view(x.shape))


@architecture(
    [
        Operand("image", ("batch", 3, 12, 14)),
        Operand("step", ("batch",), {"kind": "integers", "low": 0, "high": 1000}, "int64"),
    ],
    BATCHES,
    exporter="dynamo",
    opset=18,
)
def diffusion() -> nn.Module:
    """A denoiser that is told the time."""
    return Diffusion()


class Autoencoder(nn.Module):
    """Mean and deviation of a code, a sample from given noise, transposed convolutions back to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.ELU(), nn.Flatten()
        )
        self.code = nn.Linear(32 * 7 * 7, 2 * 12)
        self.spread = nn.Linear(12, 32 * 7 * 7)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.PReLU(16),
            nn.ConvTranspose2d(16, 1, 3, 2, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, logarithm = self.code(self.encoder(image)).chunk(2, 1)
        sample = mean + noise * torch.exp(0.5 * logarithm)
        return self.decoder(functional.softplus(self.spread(sample)).view(-1, 32, 7, 7)), mean


@architecture(
    [Operand("image", ("batch", 1, 28, 28)), Operand("noise", ("batch", 12))],
    BATCHES,
    outputs=("decoded", "mean"),
)
def autoencoder() -> nn.Module:
    """A variational autoencoder whose noise is an input."""
    return Autoencoder()
