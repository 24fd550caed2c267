"""Prepared launches: what the driver reads, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from dlc.errors import InputError, InternalError, LimitError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.launch import Launch
from dlc.runtime.cuda.module import Kernel
from dlc.runtime.cuda.stream import Stream
from tests.runtime.cuda.cubins import cubin
from tests.runtime.cuda.fake import FakeCuda, LaunchRecord
from tests.runtime.cuda.kernels import binary

X, Y, Z = 0x7F12_3456_7000, 0x7F12_3456_8000, 0xFFFF_FFFF_FFFF_FFF0


@pytest.fixture
def kernel(device: Device) -> Iterator[Kernel]:
    with Kernel(device, binary(num_warps=8, shared=1024)) as kernel:
        yield kernel


def packed(*values: int) -> tuple[bytes, ...]:
    """The parameters of ``add``."""
    return tuple(struct.pack("<" + form, value) for form, value in zip("QQQiQQ", values))


def test_everything_that_the_driver_reads(
    fake: FakeCuda, device: Device, stream: Stream, kernel: Kernel
) -> None:
    launch = Launch(kernel, (5, 2, 3), (X, Y, Z, -7))
    with device:
        launch(stream)
    assert fake.launches == [
        LaunchRecord(
            entry="add",
            grid=(5, 2, 3),
            block=(256, 1, 1),
            shared=1024,
            stream=stream.handle,
            parameters=packed(X, Y, Z, -7, 0, 0),
            attributes={},
        )
    ]


def test_clusters_and_scratch(fake: FakeCuda, device: Device, stream: Stream) -> None:
    with Kernel(device, binary(num_ctas=2, scratch=384, scratch_alignment=128)) as kernel, device:
        Launch(kernel, (5, 1, 1), (X, Y, Z, 1), scratch=0x1000)(stream)
    (record,) = fake.launches
    assert record.grid == (10, 1, 1)
    assert record.parameters == packed(X, Y, Z, 1, 0x1000, 0)
    assert record.attributes == {
        4: struct.pack("<III", 2, 1, 1).ljust(64, b"\0"),
        5: struct.pack("<i", 1).ljust(64, b"\0"),
    }


def test_scalars_of_all_types(fake: FakeCuda, device: Device, stream: Stream) -> None:
    types = ("i64", "i16", "u8", "fp32", "fp64", "u64")
    slots = [(0, 8), (8, 2), (10, 1), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8)]
    values = (-(1 << 63), -2, 255, 0.5, -1e300, (1 << 64) - 1)
    with Kernel(device, binary(code=cubin(slots=slots), parameters=types)) as kernel, device:
        Launch(kernel, (1, 1, 1), values)(stream)
    expected = [struct.pack("<" + form, value) for form, value in zip("qhBfdQ", values)]
    assert list(fake.launches[0].parameters) == [*expected, bytes(8), bytes(8)]


def test_pointers_are_patched_for_later_calls(
    fake: FakeCuda, device: Device, stream: Stream, kernel: Kernel
) -> None:
    launch = Launch(kernel, (1, 1, 1), (X, Y, Z, 3))
    with device:
        launch(stream)
        launch.patch(1, 0x5550)
        launch.patch(3, 4)
        launch(stream)
    assert [record.parameters for record in fake.launches] == [
        packed(X, Y, Z, 3, 0, 0),
        packed(X, 0x5550, Z, 4, 0, 0),
    ]
    assert [launch.value(index) for index in range(4)] == [X, 0x5550, Z, 4]


def test_an_empty_grid_launches_nothing(
    fake: FakeCuda, device: Device, stream: Stream, kernel: Kernel
) -> None:
    with device:
        Launch(kernel, (4, 0, 1), (X, Y, Z, 0))(stream)
    assert fake.calls["cuLaunchKernelEx"] == 0


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        ((1 << 31, 1, 1), "2,147,483,648 blocks along x, and a GPU takes 2,147,483,647"),
        ((1, 1 << 16, 1), "65,536 blocks along y, and a GPU takes 65,535"),
        ((1, 1, 1 << 16), "65,536 blocks along z"),
    ],
)
def test_grids_that_are_too_large(kernel: Kernel, grid: tuple[int, int, int], text: str) -> None:
    with pytest.raises(LimitError, match=text):
        Launch(kernel, grid, (X, Y, Z, 0))
    Launch(kernel, ((1 << 31) - 1, 65535, 65535), (X, Y, Z, 0))


def test_clusters_count_towards_the_limit(device: Device) -> None:
    with (
        Kernel(device, binary(num_ctas=2)) as kernel,
        pytest.raises(LimitError, match="2,147,483,648 blocks along x"),
    ):
        Launch(kernel, (1 << 30, 1, 1), (X, Y, Z, 0))


def test_values_that_do_not_fit(kernel: Kernel) -> None:
    with pytest.raises(LimitError, match="type i32 cannot hold 2,147,483,648"):
        Launch(kernel, (1, 1, 1), (X, Y, Z, 1 << 31))
    with pytest.raises(InputError, match="parameter 1 lies at 0x1004") as raised:
        Launch(kernel, (1, 1, 1), (X, 0x1004, Z, 1))
    assert raised.value.code == "input/array"
    with pytest.raises(ValueError, match="takes 4 values, not 3"):
        Launch(kernel, (1, 1, 1), (X, Y, Z))
    with pytest.raises(ValueError, match="no negative side"):
        Launch(kernel, (1, -1, 1), (X, Y, Z, 1))


def test_scratch_memory_must_be_passed(device: Device) -> None:
    with Kernel(device, binary(scratch=384, scratch_alignment=128)) as kernel:
        with pytest.raises(ValueError, match="needs 768 bytes of scratch memory"):
            Launch(kernel, (2, 1, 1), (X, Y, Z, 0))
        with pytest.raises(ValueError, match="not aligned"):
            Launch(kernel, (2, 1, 1), (X, Y, Z, 0), scratch=0x1040)


def test_a_failing_launch_names_the_kernel(
    fake: FakeCuda, device: Device, stream: Stream, kernel: Kernel
) -> None:
    launch = Launch(kernel, (5, 1, 1), (X, Y, Z, 1))
    fake.fail["cuLaunchKernelEx"] = 700
    with device, pytest.raises(InternalError, match=r"launching kernel 'add' on grid \(5, 1, 1\)"):
        launch(stream)


def test_a_launch_outside_of_the_context_is_an_error(stream: Stream, kernel: Kernel) -> None:
    with pytest.raises(InternalError, match="refused a call: launching kernel 'add'"):
        Launch(kernel, (5, 1, 1), (X, Y, Z, 1))(stream)
