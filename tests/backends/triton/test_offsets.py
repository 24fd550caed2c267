"""Offsets tile by tile: joined axes, parts that are shared, and what cannot be taken apart."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from tests.backends.triton.contraction_kernels import compare, parsed


def text_of(shape: str, entries: str, extent: int | str = "n", layout: str = "") -> str:
    """The function of y[i, j, k] = 2 x[...], which is run as well."""
    kernel = parsed(f"""kernel doubled {{
      {"symbol n" if extent == "n" else ""}
      read x: f32[{shape}]
      write y: f32[{extent}, 3, 5]{layout}
      axis i: {extent}
      axis j: 3
      axis k: 5
      for i, j, k: y[i, j, k] = x[{entries}] * 2.0
    }}""")
    return compare(kernel, {"n": 4}).calls[0].function.text


@pytest.mark.parametrize("extent", [6, "n"])
def test_axes_without_gaps_are_the_flat_index(extent: int | str) -> None:
    text = text_of(f"{extent}, 3, 5", "i, j, k", extent)
    assert "tl.load(x + point" in text
    assert "tl.store(y + point" in text


def test_axes_between_gaps_are_joined() -> None:
    # j and k lie side by side, i does not follow.
    text = text_of("n, 4, 5", "i, j, k")
    assert "point % (15)" in text
    assert "i * 20 + x0" in text


def test_the_order_of_memory_counts() -> None:
    text = text_of("n, 3, 5", "i, j, k", layout=" <0.2.1 pad(zero)>")
    assert "tl.store(y + point" in text
    assert "tl.load(x + point" not in text


def test_repeated_elements() -> None:
    text_of("n, 5", "i, k")
    text_of("1, 3, 5", "0, j, k")
    text_of("n, 9, 11", "i, 2*j + 1, 2*k")
