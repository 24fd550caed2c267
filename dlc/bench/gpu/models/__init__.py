"""What the GPU benchmark measures: models as torch modules with seeded weights, and single kernels."""

from dlc.bench.gpu.models import convolutional, decoders, diffusion, encoders, kernels
from dlc.bench.gpu.models.workload import Workload, calibrate

#: Single kernels first: they say what the machine can do.
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for family in (kernels, convolutional, encoders, decoders, diffusion)
    for workload in family.WORKLOADS
}

__all__ = ["WORKLOADS", "Workload", "calibrate"]
