"""Image classifiers made of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.models.architectures.registry import Operand, architecture

IMAGE = Operand("image", ("batch", 3, 33, 33))
BATCHES = ({"batch": 2}, {"batch": 1}, {"batch": 5})
FREE_IMAGE = Operand("image", ("batch", 3, "height", "width"))
FREE_SIZES = (
    {"batch": 2, "height": 32, "width": 40},
    {"batch": 1, "height": 37, "width": 23},
    {"batch": 3, "height": 16, "width": 61},
)


class ConvUnit(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int | tuple[int, int] = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        taps = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (taps[0] // 2 * dilation, taps[1] // 2 * dilation)
        super().__init__(
            nn.Conv2d(channels, outputs, taps, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU() if activation is None else activation,
        )


class Classifier(nn.Module):
    """Features, their mean over positions, a linear layer."""

    def __init__(self, features: nn.Module, channels: int, classes: int = 10) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


class Residual(nn.Module):
    """x + body(x), with a projection of x where the shape changes."""

    def __init__(
        self, body: nn.Module, shortcut: nn.Module | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.body(x))


def bottleneck(channels: int, width: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """1x1, 3x3, 1x1 with a shortcut."""
    body = nn.Sequential(
        ConvUnit(channels, width, 1),
        ConvUnit(width, width, 3, stride=stride, groups=groups),
        ConvUnit(width, outputs, 1, activation=nn.Identity()),
    )
    same = channels == outputs and stride == 1
    shortcut = None if same else ConvUnit(channels, outputs, 1, stride=stride, activation=nn.Identity())
    return Residual(body, shortcut, nn.ReLU())


@architecture([FREE_IMAGE], FREE_SIZES)
def resnet() -> nn.Module:
    """Bottleneck blocks after a stem with pooling; any image size."""
    return Classifier(
        nn.Sequential(
            ConvUnit(3, 16, 7, stride=2),
            nn.MaxPool2d(3, 2, 1),
            bottleneck(16, 24, 32),
            bottleneck(32, 24, 32),
            bottleneck(32, 48, 64, stride=2),
        ),
        64,
    )


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that sees their means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def inverted_residual(
    channels: int, hidden: int, outputs: int, kernel: int, stride: int, activation: type[nn.Module]
) -> nn.Module:
    """Expand, depthwise, gate, project."""
    body = nn.Sequential(
        ConvUnit(channels, hidden, 1, activation=activation()),
        ConvUnit(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation()),
        SqueezeExcite(hidden, 8),
        ConvUnit(hidden, outputs, 1, activation=nn.Identity()),
    )
    return Residual(body) if stride == 1 and channels == outputs else body


@architecture([FREE_IMAGE], FREE_SIZES)
def mobilenet() -> nn.Module:
    """Inverted residuals with squeeze-and-excitation and hard swish."""
    return Classifier(
        nn.Sequential(
            ConvUnit(3, 16, stride=2, activation=nn.Hardswish()),
            inverted_residual(16, 40, 24, 3, 2, nn.ReLU),
            inverted_residual(24, 56, 24, 5, 1, nn.Hardswish),
            inverted_residual(24, 72, 40, 5, 2, nn.Hardswish),
        ),
        40,
    )


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1, norm, ReLU, 3x3; the result is joined to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 32, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, growth, 3, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


@architecture([IMAGE], BATCHES)
def densenet() -> nn.Module:
    """Every layer reads all layers before it."""
    return Classifier(
        nn.Sequential(
            ConvUnit(3, 24, stride=2),
            DenseLayer(24, 12),
            DenseLayer(36, 12),
            DenseLayer(48, 12),
            nn.BatchNorm2d(60),
            nn.ReLU(),
            nn.Conv2d(60, 32, 1),
            nn.AvgPool2d(2, 2),
            DenseLayer(32, 16),
            nn.BatchNorm2d(48),
            nn.ReLU(),
        ),
        48,
    )


class Branches(nn.Module):
    """Several modules on one input, their results joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@architecture([IMAGE], BATCHES)
def inception() -> nn.Module:
    """Parallel branches: 1x1, factorized 1x7 and 7x1, 5x5, average pooling."""
    mixed = Branches(
        ConvUnit(32, 16, 1),
        nn.Sequential(ConvUnit(32, 16, 1), ConvUnit(16, 24, (1, 7)), ConvUnit(24, 24, (7, 1))),
        nn.Sequential(ConvUnit(32, 12, 1), ConvUnit(12, 16, 5)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), ConvUnit(32, 8, 1)),
    )
    reduced = Branches(nn.Conv2d(64, 32, 3, 2), nn.MaxPool2d(3, 2))
    return Classifier(nn.Sequential(ConvUnit(3, 32, stride=2), mixed, reduced, nn.ReLU()), 96)


class Shuffle(nn.Module):
    """Half of the channels through a branch, then both halves interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            ConvUnit(half, half, 1),
            ConvUnit(half, half, groups=half, activation=nn.Identity()),
            ConvUnit(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        joined = torch.cat([kept, self.body(changed)], 1)
        batch, channels, height, width = joined.shape
        return joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(joined.shape)


@architecture([IMAGE], BATCHES)
def shufflenet() -> nn.Module:
    """Channel split and shuffle."""
    return Classifier(
        nn.Sequential(ConvUnit(3, 48, stride=2), nn.MaxPool2d(3, 2, 1), Shuffle(48), Shuffle(48)), 48
    )


@architecture([IMAGE], BATCHES, exporter="dynamo", opset=18)
def resnext() -> nn.Module:
    """Grouped convolutions: 4 groups of 16 channels, 8 of 4."""
    return Classifier(
        nn.Sequential(
            ConvUnit(3, 32, stride=2),
            bottleneck(32, 64, 64, groups=4),
            bottleneck(64, 32, 64, stride=2, groups=8),
        ),
        64,
    )


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, layer norm over channels last, MLP with GELU, a learned scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels)
        )
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.spatial(x).permute(0, 2, 3, 1))) * self.scale
        return x + y.permute(0, 3, 1, 2)


@architecture([Operand("image", ("batch", 3, 32, 32))], BATCHES)
def convnext() -> nn.Module:
    """A patch stem and channels-last blocks."""
    return Classifier(nn.Sequential(nn.Conv2d(3, 40, 4, 4), ConvNextBlock(40), ConvNextBlock(40)), 40)
