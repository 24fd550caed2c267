"""Checking and loading binaries of kernels."""

from __future__ import annotations

from typing import Any

import pytest

from dlc.errors import InternalError, PackageError, UnsupportedError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.module import Kernel
from dlc.runtime.cuda.parameters import parameter_block
from tests.runtime.cuda.cubins import cubin
from tests.runtime.cuda.fake import FakeCuda
from tests.runtime.cuda.kernels import binary


def test_the_parameter_block_is_aligned_and_ends_with_scratch() -> None:
    block = parameter_block(("i8", "*fp16", "i32", "i64", "i16", "fp32"))
    assert [(each.type, each.offset, each.size) for each in block] == [
        ("i8", 0, 1),
        ("*fp16", 8, 8),
        ("i32", 16, 4),
        ("i64", 24, 8),
        ("i16", 32, 2),
        ("fp32", 36, 4),
        ("*scratch", 40, 8),
        ("*profile", 48, 8),
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"entry": "a b"}, "its entry is"),
        ({"entry": "add\ud800"}, "its entry is"),
        ({"shared": -1}, "its shared is -1"),
        ({"num_warps": 0}, "its num_warps is 0"),
        ({"num_warps": 33}, "its num_warps is 33"),
        ({"num_ctas": 9}, "its num_ctas is 9"),
        ({"scratch": -8}, "its scratch is -8"),
        ({"scratch_alignment": 3}, "its scratch_alignment is 3"),
        ({"arch": "gfx942"}, "its arch is 'gfx942'"),
        ({"parameters": ("*fp32", "tensordesc<fp16[64, 64]>")}, "type 'tensordesc"),
        ({"parameters": ("*fp32", "*fp32", "*fp32", "i64")}, "its code takes .*24:4.* where .*24:8"),
        ({"parameters": ("*fp32", "*fp32", "*fp32")}, "its code takes"),
        ({"entry": "sub"}, "it has no kernel 'sub'"),
        ({"code": cubin()[:300]}, "GPU code is damaged"),
        ({"arch": "sm_89"}, r"compiled for sm_89, and the GPU \(Fake H200\) is sm_90"),
    ],
)
def test_unfit_binaries_are_package_errors(
    fake: FakeCuda, device: Device, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(PackageError, match=text) as raised:
        Kernel(device, binary(**changes))
    assert raised.value.hint and not fake.modules


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 9), True),
        ("sm_89", (8, 6), False),
        ("sm_80", (9, 0), False),
        ("90", (9, 0), True),
        ("sm_90a", (9, 0), True),
        ("sm_100", (10, 3), False),
        ("sm_120", (12, 0), True),
    ],
)
def test_where_a_binary_runs(arch: str, capability: tuple[int, int], runs: bool) -> None:
    assert binary(arch=arch).runs_on(capability) is runs


def test_a_loaded_kernel(fake: FakeCuda, device: Device) -> None:
    fake.kernels["add"].attributes.update({1: 16, 3: 8, 4: 40})
    with Kernel(device, binary(num_warps=8)) as kernel:
        assert (kernel.registers, kernel.local_memory, kernel.static_shared) == (40, 8, 16)
        assert kernel.threads == 256
        assert list(fake.modules.values()) == [cubin()]
        assert fake.calls["cuFuncSetAttribute"] == 0
    assert not fake.modules


def test_much_shared_memory_is_opted_in_to(fake: FakeCuda, device: Device) -> None:
    with Kernel(device, binary(shared=48 << 10)):
        assert not fake.set_attributes
    fake.kernels["add"].attributes[1] = 1024
    with Kernel(device, binary(shared=48 << 10)):
        assert fake.set_attributes == {("add", 8): 48 << 10}
        assert fake.calls["cuFuncSetCacheConfig"] == 1
    with Kernel(device, binary(shared=232448 - 1024)):
        assert fake.set_attributes == {("add", 8): 232448 - 1024}


def test_more_shared_memory_than_the_device_has(fake: FakeCuda, device: Device) -> None:
    with pytest.raises(UnsupportedError, match="needs 232,449 bytes of shared memory") as raised:
        Kernel(device, binary(shared=232449))
    assert raised.value.code == "unsupported/target"


def test_more_threads_than_the_registers_allow(fake: FakeCuda, device: Device) -> None:
    fake.kernels["add"].attributes[0] = 64
    with pytest.raises(InternalError, match="128 threads a block, and its 32 registers a thread allow 64"):
        Kernel(device, binary())


def test_code_that_the_driver_refuses(fake: FakeCuda, device: Device) -> None:
    fake.fail["cuModuleLoadData"] = 200
    with pytest.raises(PackageError, match=r"loading kernel 'add' with a driver for CUDA 12\.8"):
        Kernel(device, binary())


def test_scratch_bytes_count_blocks(device: Device) -> None:
    with Kernel(device, binary(scratch=384, scratch_alignment=128, num_ctas=2)) as kernel:
        assert kernel.scratch_bytes((3, 2, 1)) == 384 * 12
