"""PyTorch modules: compiled as a whole, and as a backend of torch.compile. Needs the extra "torch".

    python examples/torch_module.py
"""

from __future__ import annotations

import torch
from torch import nn

import dlc
import dlc.torch  # registers the backend where dlc runs from a checkout that is not installed


class Classifier(nn.Module):
    """A small convolutional network: images [batch, 3, height, width] to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.SiLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits: torch.Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())


def main() -> None:
    """Compile a module both ways and compare it with PyTorch."""
    torch.manual_seed(0)
    module = Classifier().eval()  # for inference: compiled models have no gradients
    images = torch.randn(4, 3, 32, 32)

    model = dlc.compile(module, example_inputs=images, dynamic_shapes=({0: "batch"},))
    with torch.no_grad():
        for batch in (1, 4, 9):
            images = torch.randn(batch, 3, 32, 32)
            close = distance(model(images), module(images)) < 1e-4
            print(f"dlc.compile, batch {batch}: agrees with PyTorch: {close}")
    print(f"one compilation for all of them, {model.report().native_share:.0%} native")

    fast = torch.compile(module, backend="dlc")
    with torch.no_grad():
        print(f"torch.compile: agrees with PyTorch: {distance(fast(images), module(images)) < 1e-4}")
    try:
        fast(images)
    except dlc.UnsupportedError as error:
        print(f"with gradients: {error}")


if __name__ == "__main__":
    main()
