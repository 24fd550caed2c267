"""ResNet-50, MobileNetV2, EfficientNet-B0 and ConvNeXt-T, as their papers describe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.bench.gpu.models.workload import Workload

Activation = Callable[[], nn.Module]


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution, batch norm and activation."""
    parts: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([] if activation is None else [activation()]))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut (K. He et al., 2015; stride in the 3x3)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            convolution(inputs, width, 1),
            convolution(width, width, 3, stride),
            convolution(width, outputs, 1, activation=None),
        )
        is_plain = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if is_plain else convolution(inputs, outputs, 1, stride, activation=None)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def classifier(features: int, classes: int) -> list[nn.Module]:
    """The mean over positions, and a linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def resnet(width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), classes: int = 1000) -> nn.Module:
    """ResNet; the defaults are ResNet-50."""
    parts: list[nn.Module] = [convolution(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            parts.append(Bottleneck(inputs, width << stage, stride))
            inputs = 4 * (width << stage)
    return nn.Sequential(*parts, *classifier(inputs, classes))


class Gate(nn.Module):
    """Squeeze and excite: channels scaled by what their means say."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(functional.silu(self.down(means))))


class InvertedResidual(nn.Module):
    """1x1 up, depthwise, an optional gate, 1x1 down (M. Sandler et al., 2018; M. Tan, Q. Le, 2019)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        expansion: int,
        kernel: int,
        stride: int,
        activation: Activation,
        gated: bool,
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.body = nn.Sequential(
            *([convolution(inputs, width, 1, activation=activation)] if expansion > 1 else []),
            convolution(width, width, kernel, stride, width, activation),
            *([Gate(width, max(1, inputs // 4))] if gated else []),
            convolution(width, outputs, 1, activation=None),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.has_shortcut else y


#: Expansion, channels, blocks, stride, kernel of each stage.
Stages = Sequence[tuple[int, int, int, int, int]]
MOBILENET: Stages = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip
EFFICIENTNET: Stages = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip
TINY: Stages = ((1, 8, 1, 1, 3), (2, 16, 2, 2, 5))


def inverted(stages: Stages, stem: int, head: int, activation: Activation, gated: bool) -> nn.Module:
    """A classifier of inverted residuals."""
    parts: list[nn.Module] = [convolution(3, stem, 3, 2, activation=activation)]
    inputs = stem
    for expansion, outputs, blocks, stride, kernel in stages:
        for block in range(blocks):
            step = stride if block == 0 else 1
            parts.append(InvertedResidual(inputs, outputs, expansion, kernel, step, activation, gated))
            inputs = outputs
    parts.append(convolution(inputs, head, 1, activation=activation))
    return nn.Sequential(*parts, *classifier(head, 1000 if head > 100 else 10))


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


class ConvNextBlock(nn.Module):
    """Depthwise 7x7 and a multilayer perceptron over channels (Z. Liu et al., 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        # The paper begins with 1e-6, which would hide what the block computes.
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        result: Tensor = x + (self.mlp(self.norm(y)) * self.scale).permute(0, 3, 1, 2)
        return result


def convnext(
    widths: Sequence[int] = (96, 192, 384, 768), depths: Sequence[int] = (3, 3, 9, 3), classes: int = 1000
) -> nn.Module:
    """ConvNeXt; the defaults are ConvNeXt-T."""
    parts: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], eps=1e-6)]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            parts += [ChannelNorm(widths[stage - 1], eps=1e-6), nn.Conv2d(widths[stage - 1], width, 2, 2)]
        parts += [ConvNextBlock(width) for _ in range(depth)]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1], eps=1e-6)]
    return nn.Sequential(*parts, nn.Linear(widths[-1], classes))


def images(batch: int, tiny: bool) -> dict[str, Tensor]:
    """Images of the size of ImageNet's."""
    side = 32 if tiny else 224
    return {"image": torch.randn(batch, 3, side, side)}


WORKLOADS = (
    Workload("resnet50", lambda tiny: resnet(8, (1, 1), 10) if tiny else resnet(), images),
    Workload(
        "mobilenet_v2",
        lambda tiny: inverted(*((TINY, 8, 32) if tiny else (MOBILENET, 32, 1280)), nn.ReLU6, False),
        images,
    ),
    Workload(
        "efficientnet_b0",
        lambda tiny: inverted(*((TINY, 8, 32) if tiny else (EFFICIENTNET, 32, 1280)), nn.SiLU, True),
        images,
    ),
    Workload("convnext_t", lambda tiny: convnext((16, 32), (1, 1), 10) if tiny else convnext(), images),
)
