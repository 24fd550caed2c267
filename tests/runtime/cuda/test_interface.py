"""The structures and prototypes against cuda.h, which comes with Triton."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest

from dlc.runtime.cuda.interface import (
    PROTOTYPES,
    LaunchAttribute,
    LaunchConfig,
    PoolProperties,
    UpdateResult,
)

#: Types of cuda.h -> (size, whether a pointer or a handle).
SCALARS = {
    "int": 4,
    "unsigned int": 4,
    "size_t": 8,
    "unsigned long long": 8,
    "unsigned char": 1,
    "CUdevice": 4,
    "CUdeviceptr": 8,
    "CUresult": 4,
    "CUdevice_attribute": 4,
    "CUfunction_attribute": 4,
    "CUfunc_cache": 4,
    "CUmemPool_attribute": 4,
    "CUstreamCaptureMode": 4,
    "CUfunction": 8,
    "CUmodule": 8,
    "CUcontext": 8,
    "CUstream": 8,
    "CUevent": 8,
    "CUgraph": 8,
    "CUgraphExec": 8,
    "CUmemoryPool": 8,
}


@pytest.fixture(scope="module")
def header() -> str:
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        pytest.skip("triton, whose wheel brings cuda.h, is not installed")
    path = Path(spec.origin).parent / "backends/nvidia/include/cuda.h"
    if not path.exists():
        pytest.skip("this triton has no cuda.h")
    return path.read_text(errors="replace")


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototypes_are_those_of_cuda_h(header: str, name: str) -> None:
    plain = name.removesuffix("_v2")
    if name == "cuGraphInstantiateWithFlags":
        plain = "cuGraphInstantiate"
    declared = re.search(rf"^CUresult CUDAAPI {plain}\(([^)]*)\);", header, re.MULTILINE)
    assert declared, name
    renamed = re.search(rf"^\s*#define {plain}\s+(?:__CUDA_API_PT[SD][ZS]\()?(\w+)", header, re.MULTILINE)
    newest = renamed[1] if renamed else plain
    # The one function of which an older version is taken: the newer one exists from CUDA 12.8 on.
    assert newest == name or (name, newest) == ("cuEventElapsedTime", "cuEventElapsedTime_v2")
    sizes = []
    for parameter in declared[1].split(","):
        kind = re.sub(r"\w+$", "", parameter.strip().replace("const ", "")).strip()
        sizes.append(8 if kind.endswith("*") else SCALARS[kind])
    assert [ctypes.sizeof(each) for each in PROTOTYPES[name]] == sizes


def test_structures_have_the_layout_of_the_c_compiler() -> None:
    """Offsets and sizes as printed by gcc from cuda.h of CUDA 13.1 on x86-64."""
    assert ctypes.sizeof(LaunchConfig) == 56
    assert LaunchConfig.shared.offset == 24
    assert LaunchConfig.stream.offset == 32
    assert LaunchConfig.attributes.offset == 40
    assert LaunchConfig.attribute_count.offset == 48
    assert (ctypes.sizeof(LaunchAttribute), LaunchAttribute.value.offset) == (72, 8)
    assert (ctypes.sizeof(PoolProperties), PoolProperties.location.offset) == (88, 12)
    assert PoolProperties.largest.offset == 24
    assert ctypes.sizeof(UpdateResult) == 24
