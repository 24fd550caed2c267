"""Models compiled once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import dlc
from tests.api.small_models import AFFINE, GATHER


@pytest.fixture(scope="session")
def affine() -> Iterator[dlc.CompiledModel]:
    """y = x * 2 + b, z = tanh(x) for float[n, 3]."""
    with dlc.compile(AFFINE, threads=2, cache=False) as model:
        yield model


@pytest.fixture(scope="session")
def gather() -> Iterator[dlc.CompiledModel]:
    """Rows of a table by ids."""
    with dlc.compile(GATHER, threads=2, cache=False) as model:
        yield model
