"""What is measured: a torch module, its inputs, and what a roof says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: The seed of weights and inputs.
SEED = 0


@dataclass(frozen=True)
class Workload:
    """A module to measure. `build` and `inputs` make it as it is, or tiny for a trial without a GPU.

    `build` draws the weights, in float32. `inputs` gives the arguments by name, in order, for a batch.
    `outputs` names the results. A workload with `bytes` or `operations` (functions of the inputs: bytes that
    must be moved; floating-point operations) is one kernel, which is held against a roof; its inputs have the
    dtype that it computes in. Others are models, which are measured in float32 and in 16 bits.
    """

    name: str
    build: Callable[[bool], nn.Module]
    inputs: Callable[[int, bool], Mapping[str, Tensor]]
    outputs: tuple[str, ...] = ("y",)
    bytes: Callable[[Mapping[str, Tensor]], int] | None = None
    operations: Callable[[Mapping[str, Tensor]], int] | None = None

    @property
    def is_kernel(self) -> bool:
        """Whether it is held against a roof."""
        return self.bytes is not None or self.operations is not None

    def make(self, tiny: bool) -> nn.Module:
        """The module with seeded weights, on the CPU, ready for inference."""
        torch.manual_seed(SEED)
        return self.build(tiny).eval()

    def draw(self, batch: int, tiny: bool) -> dict[str, Tensor]:
        """Seeded inputs, on the CPU."""
        torch.manual_seed(SEED + 1)
        return dict(self.inputs(batch, tiny))


def calibrate(module: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Give batch norms the statistics of `inputs`, so that activations keep their size through all layers."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain average
        norm.train()
    if norms:
        with torch.no_grad():
            module(*inputs.values())
    module.eval()
