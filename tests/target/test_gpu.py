"""The GPU target descriptions, and the GPU at hand through a driver that is made of Python."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from dlc.errors import InputError, UnsupportedError
from dlc.target import resolve_gpu
from dlc.target.gpu import _ARCHITECTURES, gpu_at_hand

#: What an H200 answers: CUdevice_attribute -> value.
H200 = {16: 132, 36: 3_201_000, 37: 6144, 75: 9, 76: 0, 82: 65536, 97: 232448}


class FakeDriver:
    """libcuda's functions over `attributes`; `failing` gives functions that return a status."""

    def __init__(self, attributes: Mapping[int, int], failing: Mapping[str, int] | None = None) -> None:
        self.attributes = attributes
        self.failing = failing or {}

    def cuInit(self, flags: int) -> int:
        return self.failing.get("cuInit", 0)

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        assert ordinal == 0
        return self.failing.get("cuDeviceGet", 0)

    def cuDeviceGetAttribute(self, value: Any, number: int, device: ctypes.c_int) -> int:
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = self.attributes[number]
        return 0


@pytest.mark.parametrize("name", _ARCHITECTURES)
def test_a_name_gives_the_target_of_that_name(name: str) -> None:
    target = resolve_gpu(name)
    assert target.name == name and target is resolve_gpu(name)
    assert target.backend == name.split(":")[0]
    assert str(target.arch) == name.split(":")[1].removeprefix("sm_")
    assert target.shared_bytes >= 48 << 10 and target.dots >= {"f16", "bf16", "i8"}
    assert target.has_tma or not target.has_wgmma


def test_generations_differ_where_it_matters() -> None:
    ampere, ada, hopper, blackwell = (resolve_gpu(f"cuda:sm_{n}") for n in (80, 89, 90, 100))
    assert "f8e4m3fn" not in ampere.dots and "f8e4m3fn" in ada.dots
    assert [t.has_tma for t in (ampere, ada, hopper, blackwell)] == [False, False, True, True]
    assert [t.has_wgmma for t in (ampere, ada, hopper, blackwell)] == [False, False, True, False]
    assert hopper.shared_bytes == 232448 and ampere.shared_bytes == 166912
    assert resolve_gpu("hip:gfx942").warp_size == 64


def test_where_binaries_run() -> None:
    sm80, sm86, sm90, sm100 = (resolve_gpu(f"cuda:sm_{n}") for n in (80, 86, 90, 100))
    assert sm80.runs_on(sm86) and not sm86.runs_on(sm80)
    assert sm90.runs_on(dataclasses.replace(sm90, multiprocessors=114))
    assert not sm80.runs_on(sm90) and not sm90.runs_on(sm100)
    assert not resolve_gpu("hip:gfx942").runs_on(resolve_gpu("hip:gfx950"))
    assert not sm80.runs_on(resolve_gpu("hip:gfx942"))


@pytest.mark.parametrize("name", ["cuda:sm_70", "cuda:90", "hip", "gpu", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match="unknown GPU target") as caught:
        resolve_gpu(name)
    assert caught.value.code == "input/option" and "cuda:sm_90" in str(caught.value.hint)


def test_the_gpu_at_hand_is_described_by_its_driver() -> None:
    target = gpu_at_hand(FakeDriver(H200))
    named = resolve_gpu("cuda:sm_90")
    assert target == dataclasses.replace(named, bandwidth=target.bandwidth)
    assert 4.7e12 < target.bandwidth < 5.0e12
    assert gpu_at_hand(FakeDriver({**H200, 16: 114})).multiprocessors == 114
    assert gpu_at_hand(FakeDriver({**H200, 36: 0})).bandwidth == named.bandwidth


def test_a_gpu_without_a_name_is_described_all_the_same() -> None:
    target = gpu_at_hand(FakeDriver({**H200, 75: 12, 76: 1, 97: 101376}))
    assert (target.name, target.arch, target.has_tma, target.has_wgmma) == ("cuda:sm_121", 121, True, False)


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (FakeDriver(H200, {"cuInit": 100}), "CUresult 100"),
        (FakeDriver(H200, {"cuDeviceGet": 101}), "CUresult 101"),
        (FakeDriver({**H200, 75: 7, 76: 5}), "sm_75"),
    ],
)
def test_no_gpu_that_can_be_served(driver: FakeDriver, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        gpu_at_hand(driver)
    assert caught.value.code == "unsupported/target"


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlc.target.gpu._LIBRARY", "libcuda-that-does-not-exist.so.1")
    with pytest.raises(UnsupportedError, match="no CUDA driver") as caught:
        resolve_gpu("cuda")
    assert caught.value.code == "unsupported/target"
