"""Digests of large contents."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.runtime import digests
from dlc.runtime.digests import content_digest


@pytest.mark.parametrize("size", [0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 13 << 20])
def test_one_thread_and_several_agree(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(size).bytes(size)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(digests, "usable_cpus", lambda count=threads: count)
        found.append(content_digest(content))
    assert len(found[0]) == 32 and len(set(found)) == 1
    assert content_digest(memoryview(content)) == found[0]


def test_every_byte_and_the_order_count() -> None:
    content = bytearray(np.random.default_rng(0).bytes(9 << 20))
    digest = content_digest(bytes(content))
    for position in (0, 4 << 20, len(content) - 1):
        content[position] ^= 1
        assert content_digest(bytes(content)) != digest
        content[position] ^= 1
    first, second, rest = content[: 4 << 20], content[4 << 20 : 8 << 20], content[8 << 20 :]
    assert content_digest(bytes(second + first + rest)) != digest
    assert content_digest(bytes(content[:-1])) != digest
