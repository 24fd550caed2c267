"""The coupling of pairs of classes by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from tests.backends.triton.running import assert_compiles, both, kernel_of


def coupling(rows: str, classes: int) -> str:
    return f"""kernel coupling {{
  {"symbol n" if rows == "n" else ""}
  read pairs: f32[{rows}, {classes * (classes - 1) // 2}]
  write probabilities: f32[{rows}, {classes}]
  routine pairwise_coupling(pairs, probabilities)
}}"""


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (33, 3), (5, 5)])
def test_probabilities(rows: int, classes: int) -> None:
    pairs = np.random.default_rng(rows).uniform(0.05, 0.95, (rows, classes * (classes - 1) // 2))
    ((got, want),) = both(kernel_of(coupling(str(rows), classes)), {"pairs": pairs.astype(np.float32)})
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-4)


def test_no_rows() -> None:
    ((got, _),) = both(kernel_of(coupling("n", 3)), {"pairs": np.zeros((0, 3), np.float32)}, {"n": 0})
    assert got.shape == (0, 3)


def test_a_row_that_is_no_number_keeps_equal_shares() -> None:
    pairs = np.array([[np.nan, 0.5, 0.5], [0.9, 0.8, 0.6]], np.float32)
    ((got, want),) = both(kernel_of(coupling("2", 3)), {"pairs": pairs})
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_compiles() -> None:
    assert_compiles(kernel_of(coupling("n", 4)))
