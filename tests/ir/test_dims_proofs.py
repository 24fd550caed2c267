"""What is provable about the order of dims, beyond intervals. `test_dims_properties` tests soundness."""

from __future__ import annotations

import pytest

from dlc.ir.dims import (
    Dim,
    Symbol,
    broadcast,
    ceildiv,
    is_nonnegative,
    is_positive,
    known_le,
    known_lt,
    maximum,
    minimum,
    proofs,
)

n, m = Symbol("n"), Symbol("m")
p, q = Symbol("p", 1), Symbol("q", 1)
i = Symbol("i", 0, 15)
z = Symbol("z", None)


@pytest.mark.parametrize(
    "dim",
    [
        n - n // 2,
        n - n // p,
        n - n % 16,
        n - n % p,
        p - n % p - 1,
        16 * ceildiv(n, 16) - n,
        n + 15 - 16 * ceildiv(n, 16),
        n * p - n,
        n * p * q - n,
        15 * n - n * i,
        n - minimum(n, m),
        maximum(n, m) - m,
        n * m - minimum(n, 3) * m,
        n - 16 * minimum(n // 16, m),
        n + m - maximum(n, m),
        n + m - broadcast(n, m),
        minimum(n, m) - minimum(n, m, 4),
        maximum(z, 3) - minimum(z, 3),
        (n + 2) // 2 - n // 2,
    ],
    ids=str,
)
def test_nonnegative(dim: Dim) -> None:
    assert is_nonnegative(dim)
    assert not is_positive(-dim)


@pytest.mark.parametrize(
    "dim", [n - m, z, n - p, n - 1, n // 2 - 1, n * m - n, i - 8, n - 2 * (n // 2) - 1, -z], ids=str
)
def test_not_always_nonnegative(dim: Dim) -> None:
    assert not is_nonnegative(dim)


def test_strict_order() -> None:
    assert known_lt(n % p, p) and known_lt(n // 2, p + n) and known_lt(16 * n + i, 16 * n + 16)
    assert not known_lt(n // 2, n)
    assert known_le(16 * (n // 16) + i, n // 16 * 16 + 15)


def test_last_index_of_a_tiled_loop_is_in_range() -> None:
    """Tiles of 16 over an extent n: the index is below n under the clamped trip count."""
    tile = Symbol("t", 0)
    inside = minimum(n - 16 * tile, 16) - 1
    assert known_le(16 * tile + inside, n - 1)


def test_a_proof_gives_up_in_bounded_time() -> None:
    terms = [minimum(Symbol(f"x{k}"), Symbol(f"y{k}")) * (k % 3 - 1) for k in range(60)]
    assert not is_nonnegative(sum(terms[1:], terms[0]))


def test_a_long_sum_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product of four padded extents has 81 terms; to take it apart would cost seconds."""
    sums = [Symbol(f"before{k}") + Symbol(f"after{k}", None) + (n % 8) for k in range(4)]
    volume = sums[0] * sums[1] * sums[2] * sums[3]
    steps: list[object] = []
    original = proofs.add_scaled
    monkeypatch.setattr(proofs, "add_scaled", lambda *a: steps.append(a) or original(*a))
    assert not is_nonnegative(volume - 100)
    assert len(steps) < 1000
