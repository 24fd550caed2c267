"""Loading the driver, opening devices, and what return codes become."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import pytest

from dlc.errors import Error, InternalError, PackageError, ResourceError, UnsupportedError
from dlc.runtime.cuda import device as device_module, driver as driver_module
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.driver import Driver
from dlc.runtime.cuda.memory import DeviceMemory
from dlc.runtime.cuda.stream import Stream
from tests.runtime.cuda.fake import FakeCuda


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "_LIBRARY", "libdlc-no-such-driver.so.1")
    monkeypatch.setattr(driver_module, "_driver", None)
    with pytest.raises(UnsupportedError, match="no NVIDIA driver on this machine") as raised:
        driver_module.load_driver()
    assert raised.value.code == "unsupported/target"
    assert raised.value.hint is not None and "run the package where one is" in raised.value.hint


def test_a_driver_without_a_device(fake: FakeCuda) -> None:
    fake.fail["cuInit"] = 100
    with pytest.raises(
        UnsupportedError, match=r"no usable GPU: .*CUDA_ERROR_NO_DEVICE \(no CUDA-cap"
    ) as raised:
        Driver(fake)
    assert raised.value.code == "unsupported/target"


def test_old_drivers_are_refused(fake: FakeCuda) -> None:
    fake.version = 11080
    with pytest.raises(UnsupportedError, match=r"serves CUDA 11\.8, and CUDA 12\.0 is needed"):
        Driver(fake)

    class Older:
        def __getattr__(self, name: str) -> Any:
            if name == "cuGraphExecUpdate_v2":
                raise AttributeError(name)
            return getattr(fake, name)

    with pytest.raises(UnsupportedError, match="has no function cuGraphExecUpdate_v2"):
        Driver(Older())


@pytest.mark.parametrize(
    ("status", "kind", "code", "text"),
    [
        (2, ResourceError, "resource", r"CUDA_ERROR_OUT_OF_MEMORY \(out of memory\)"),
        (3, UnsupportedError, "unsupported/target", "a fork of one that used it"),
        (46, UnsupportedError, "unsupported/target", "no usable GPU"),
        (200, PackageError, "package", "damaged, or newer than the driver"),
        (209, PackageError, "package", "made for another device"),
        (700, InternalError, "internal", "cannot use the GPU any more"),
        (719, InternalError, "internal", "a kernel failed on the GPU"),
        (803, UnsupportedError, "unsupported/target", "no usable GPU"),
        (1, InternalError, "internal", "refused a call"),
        (12345, InternalError, "internal", r"CUDA status 12345"),
    ],
)
def test_return_codes_become_typed_errors(
    fake: FakeCuda, status: int, kind: type[Error], code: str, text: str
) -> None:
    library = Driver(fake)
    with pytest.raises(kind, match=text) as raised:
        library.check(status, "doing something")
    assert type(raised.value) is kind and raised.value.code == code
    assert "doing something" in raised.value.message and raised.value.hint
    library.check(0, "doing something")


def test_a_device_says_what_it_is(fake: FakeCuda, device: Device) -> None:
    assert (device.name, device.capability, device.arch) == ("Fake H200", (9, 0), "sm_90")
    assert (device.multiprocessors, device.shared_memory, device.memory) == (132, 232448, fake.memory)
    assert device.free_memory() == (fake.memory, fake.memory)
    assert repr(device) == "Device(0: Fake H200, sm_90)"


def test_a_device_that_does_not_exist(device: Device) -> None:
    with pytest.raises(UnsupportedError, match="opening GPU 3"):
        Device(device.driver, 3)


def test_devices_are_opened_once(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "_driver", Driver(fake))
    monkeypatch.setattr(device_module, "_devices", {})
    assert device_module.device_count() == 1
    assert device_module.open_device() is device_module.open_device(0)
    assert fake.calls["cuDevicePrimaryCtxRetain"] == 1
    with pytest.raises(UnsupportedError, match="opening GPU 1"):
        device_module.open_device(1)


def test_contexts_nest_and_belong_to_threads(fake: FakeCuda, device: Device) -> None:
    seen = []
    with device, device:
        assert fake.current_contexts == [0xC0, 0xC0]
        thread = threading.Thread(target=lambda: seen.append(list(fake.current_contexts)))
        thread.start()
        thread.join()
    assert seen == [[]] and fake.current_contexts == []


def test_resources_are_given_back_once(fake: FakeCuda, device: Device) -> None:
    memory = DeviceMemory(device, 100)
    assert not memory.is_closed
    memory.close()
    memory.close()
    assert memory.is_closed and fake.calls["cuMemFree_v2"] == 1
    with Stream(device) as stream:
        assert stream.handle in fake.streams
    assert fake.streams == {0}
    DeviceMemory(device, 100)
    gc.collect()
    assert not fake.allocations


def test_a_failed_constructor_leaves_nothing_to_give_back(fake: FakeCuda, device: Device) -> None:
    fake.fail["cuStreamCreate"] = 2
    with pytest.raises(ResourceError, match="creating a stream"):
        Stream(device)
    assert fake.calls["cuStreamDestroy_v2"] == 0


def test_giving_back_after_a_fault_is_silent(fake: FakeCuda, device: Device) -> None:
    memory = DeviceMemory(device, 100)
    fake.fail["cuCtxPushCurrent_v2"] = 700
    memory.close()
    assert memory.is_closed and fake.calls["cuMemFree_v2"] == 0


def test_a_forked_child_gets_an_error_and_frees_nothing(fake: FakeCuda, device: Device) -> None:
    memory = DeviceMemory(device, 100)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            with device:
                result = "entered"
        except UnsupportedError as error:
            result = str(error)
        calls = sum(fake.calls.values())
        memory.close()
        untouched = calls == sum(fake.calls.values())
        os.write(write, f"{result} {untouched}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert "was used before this process was forked" in text and "spawn" in text
    assert text.endswith("True")
    memory.close()
    assert fake.calls["cuMemFree_v2"] == 1
