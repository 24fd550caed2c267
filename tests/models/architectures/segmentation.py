"""Models whose outputs are as large as their inputs, or spatial in other ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.architectures.convolutional import BATCHES, FREE_SIZES, ConvUnit
from tests.models.architectures.registry import Operand, architecture


class UNet(nn.Module):
    """Down by strides, up by transposed convolutions, skips joined along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = ConvUnit(3, 16), ConvUnit(16, 32), ConvUnit(32, 48)
        self.pool = nn.MaxPool2d(2)
        self.up_second, self.up_first = nn.ConvTranspose2d(48, 32, 2, 2), nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.join_second, self.join_first = ConvUnit(64, 32), ConvUnit(32, 16)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)
        second = self.second(self.pool(first))
        third = self.third(self.pool(second))
        second = self.join_second(torch.cat([self.up_second(third), second], 1))
        return self.head(self.join_first(torch.cat([self.up_first(second), first], 1)))


@architecture([Operand("image", ("batch", 3, 28, 36))], BATCHES)
def unet() -> nn.Module:
    """Per-pixel classes."""
    return UNet()


class Pyramid(nn.Module):
    """Atrous spatial pyramid: dilated convolutions and the mean of the image, resized to the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, 24, stride=2)
        self.branches = nn.ModuleList([ConvUnit(24, 16, 1), *(ConvUnit(24, 16, dilation=d) for d in (2, 4))])
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 16, 1), nn.ReLU())
        self.head = nn.Conv2d(64, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        whole = self.whole(x).expand(-1, -1, x.shape[2], x.shape[3])
        scores = self.head(torch.cat([*(branch(x) for branch in self.branches), whole], 1))
        return functional.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=False)


@architecture([Operand("image", ("batch", 3, "height", "width"))], FREE_SIZES)
def aspp() -> nn.Module:
    """Dilated convolutions at any image size; the size of Resize is computed from the image's."""
    return Pyramid()


@architecture([Operand("volume", ("batch", 1, 9, 14, 11))], BATCHES)
def volume() -> nn.Module:
    """3-D convolutions, pooling and a transposed one."""
    return nn.Sequential(
        nn.Conv3d(1, 16, 3, padding=1),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose3d(24, 16, 2, 2),
        nn.Conv3d(16, 2, 1),
    )


class CrossStage(nn.Module):
    """Two paths over the same features, joined again; SiLU everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.left = ConvUnit(channels, half, 1, activation=nn.SiLU())
        self.right = nn.Sequential(
            ConvUnit(channels, half, 1, activation=nn.SiLU()), ConvUnit(half, half, activation=nn.SiLU())
        )
        self.join = ConvUnit(channels, channels, 1, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.left(x), self.right(x)], 1))


class Detector(nn.Module):
    """A feature pyramid with two heads whose boxes are decoded against a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvUnit(3, 16, stride=2, activation=nn.SiLU()),
            ConvUnit(16, 32, stride=2, activation=nn.SiLU()),
            CrossStage(32),
        )
        self.deep = nn.Sequential(ConvUnit(32, 48, stride=2, activation=nn.SiLU()), CrossStage(48))
        self.pools = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (3, 5)])
        self.narrow = ConvUnit(144, 32, 1, activation=nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(64, 7, 1), nn.Conv2d(32, 7, 1)])

    def decode(self, raw: Tensor, stride: int) -> Tensor:
        """Boxes and scores [n, positions, 7] of raw predictions [n, 7, h, w]."""
        height, width = raw.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows])[None].float()
        centre = (raw[:, :2].sigmoid() * 2 - 0.5 + grid) * stride
        size = (raw[:, 2:4].sigmoid() * 2) ** 2 * (4 * stride)
        return torch.cat([centre, size, raw[:, 4:].sigmoid()], 1).flatten(2).transpose(1, 2)

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.stem(image)
        deep = self.deep(shallow)
        deep = self.narrow(torch.cat([deep, *(pool(deep) for pool in self.pools)], 1))
        joined = torch.cat([functional.interpolate(deep, scale_factor=2.0), shallow], 1)
        return torch.cat([self.decode(self.heads[0](joined), 4), self.decode(self.heads[1](deep), 8)], 1)


@architecture([Operand("image", ("batch", 3, 40, 48))], BATCHES)
def detector() -> nn.Module:
    """Boxes and scores at two scales."""
    return Detector()
