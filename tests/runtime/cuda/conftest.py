"""A fake driver and its device for each test, and the real device for those that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dlc.errors import UnsupportedError
from dlc.runtime.cuda.device import Device, open_device
from dlc.runtime.cuda.driver import Driver
from dlc.runtime.cuda.stream import Stream
from tests.runtime.cuda.fake import FakeCuda


@pytest.fixture
def fake() -> Iterator[FakeCuda]:
    """A driver that no correct program finds a problem with; contexts are left as they were entered."""
    fake = FakeCuda()
    yield fake
    assert not fake.problems, "\n".join(fake.problems)
    assert not fake.current_contexts


@pytest.fixture
def device(fake: FakeCuda) -> Device:
    return Device(Driver(fake), 0)


@pytest.fixture
def stream(device: Device) -> Iterator[Stream]:
    with Stream(device) as stream:
        yield stream


@pytest.fixture
def gpu() -> Device:
    """The first GPU of this machine, or the test is skipped."""
    try:
        return open_device()
    except UnsupportedError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error.message}")
