"""Memory blocks: alignment, checks before allocation, poison; and the guarded buffers of other tests."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import LimitError, ResourceError
from dlc.runtime import arena
from dlc.runtime.arena import ALIGNMENT, Block, available_memory
from tests.runtime.guarded import guarded


@pytest.mark.parametrize("size", [0, 1, 63, 4096, 100_000, (2 << 20) - 1, 2 << 20, 5_000_001])
@pytest.mark.parametrize("stagger", [0, 64, 4096 + 128])
def test_blocks_are_aligned_zeroed_and_writable(size: int, stagger: int) -> None:
    block = Block(size, stagger=stagger)
    assert block.address % ALIGNMENT == 0
    assert block.address % 4096 == stagger % 4096
    if size >= 2 << 20:
        assert block.address % (2 << 20) == stagger
    content = block.array()
    assert content.shape == (size,) and not content.any()
    content[:] = 255
    assert ctypes.string_at(block.address, size) == b"\xff" * size
    del content
    block.close()
    assert block.address == 0


def test_memory_is_given_back() -> None:
    before = _resident_bytes()
    block = Block(200 << 20)
    block.array()[::4096] = 1
    assert _resident_bytes() - before > 150 << 20
    block.close()
    assert _resident_bytes() - before < 50 << 20


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_closed_block_cannot_be_pulled_from_under_an_array() -> None:
    block = Block(100)
    view = block.array()
    with pytest.raises(BufferError):
        block.close()
    view[0] = 1
    assert block.address != 0


def test_the_limit_comes_first() -> None:
    message = "activations: 1,000,001 bytes exceed the limit of 1,000,000"
    with pytest.raises(LimitError, match=message) as caught:
        Block(1_000_001, limit=1_000_000, what="activations")
    assert "arena_bytes=1000001" in str(caught.value)
    assert Block(1_000_000, limit=1_000_000).size == 1_000_000


@pytest.mark.parametrize("size", [1 << 44, 1 << 62, 1 << 63, 1 << 70])
def test_absurd_sizes_are_resource_errors(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match="are available"):
        Block(size)
    monkeypatch.setattr(arena, "available_memory", lambda: None)
    monkeypatch.setattr(arena, "memory_limit", lambda: None)
    if size > 1 << 47:  # nothing is known of the machine, so the system has to refuse
        with pytest.raises(ResourceError, match="bytes are needed; "):
            Block(size)


def test_the_control_groups_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "memory_limit", lambda: 50 << 20)
    with pytest.raises(ResourceError, match="of which 52,428,800 are available"):
        Block(51 << 20)
    Block(49 << 20).close()


def test_available_memory(tmp_path: Path) -> None:
    text = "MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable:   42 kB\n"
    (tmp_path / "meminfo").write_text(text)
    assert available_memory(tmp_path / "meminfo") == 42 * 1024
    assert available_memory(tmp_path / "absent") is None
    (tmp_path / "old").write_text("MemTotal: 100 kB\n")
    assert available_memory(tmp_path / "old") is None


def test_poison_is_nan_in_every_float_type() -> None:
    block = Block(1003, poison=True)
    content = block.array()[:1000]
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        assert np.isnan(content.view(dtype).astype(np.float64)).all()
    assert block.array()[1000:].tolist() == [255] * 3
    assert (content.view(np.int64) < -1_000_000).all()


@pytest.mark.parametrize("size", [-1, -(1 << 70)])
def test_negative_sizes_are_mistakes_of_the_caller(size: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        Block(size)
    with pytest.raises(ValueError, match="stagger"):
        Block(1, stagger=3)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1024,), (2, 1024), (0,)])
@pytest.mark.parametrize("at_end", [True, False])
def test_guarded_arrays_are_arrays(shape: tuple[int, ...], at_end: bool) -> None:
    array = guarded(shape, np.float32, at_end=at_end)
    assert array.shape == shape and array.flags.writeable and array.flags.c_contiguous
    array[...] = 3
    assert (array == 3).all()
    edge = array.ctypes.data + array.nbytes if at_end else array.ctypes.data
    assert edge % 4096 == 0


@pytest.mark.parametrize(("at_end", "offset"), [(True, 28), (False, -1)], ids=["after", "before"])
def test_an_access_beyond_a_guarded_array_ends_the_process(at_end: bool, offset: int) -> None:
    program = (
        "import ctypes, numpy as np\n"
        "from tests.runtime.guarded import guarded\n"
        f"array = guarded((7,), np.float32, at_end={at_end})\n"
        f"ctypes.c_char.from_address(array.ctypes.data + {offset}).value\n"
    )
    code = subprocess.run([sys.executable, "-c", program], capture_output=True).returncode
    assert code == -signal.SIGSEGV
