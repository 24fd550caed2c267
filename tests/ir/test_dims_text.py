"""The text form of dims: what is printed, what is read, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from dlc.errors import Error, InputError, LimitError
from dlc.ir.dims import Dim, Symbol, broadcast, ceildiv, maximum, minimum, parse, to_text

n, m, z = Symbol("n"), Symbol("m"), Symbol("batch.size_2", None)
SYMBOLS = {"n": n, "m": m, "batch.size_2": z, "min": Symbol("min")}


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (0, "0"),
        (-7, "-7"),
        (n, "n"),
        (4 * n + n * m + (n + 1) // 2 + minimum(n, 8), "4*n + m*n + floordiv(n + 1, 2) + min(n, 8)"),
        (-n, "-n"),
        (3 - 2 * n, "-2*n + 3"),
        (n - m - 1, "-m + n - 1"),
        (n * n * m, "m*n*n"),
        (-(n * m), "-m*n"),
        ((n - 1) % 7, "mod(n + 6, 7)"),
        (n % m, "mod(n, m)"),
        (maximum(n, m, 3), "max(m, n, 3)"),
        (broadcast(n, m), "broadcast(m, n)"),
        (z - 1, "batch.size_2 - 1"),
        (ceildiv(n, 16) * 16, "16*floordiv(n + 15, 16)"),
    ],
)
def test_prints_and_parses(dim: Dim, text: str) -> None:
    assert to_text(dim) == text
    assert parse(text, SYMBOLS) == dim


@pytest.mark.parametrize(
    ("text", "dim"),
    [
        ("n // 2", n // 2),
        ("n%3", n % 3),
        ("2*(n+1)", 2 * n + 2),
        ("n - -m", n + m),
        ("- - 3", 3),
        ("-n*m", -(n * m)),
        ("7 // 2 * 2", 6),
        ("n - m - 1", n - m - 1),
        ("ceildiv(n, 4)", ceildiv(n, 4)),
        ("\tmin ( n , m,8 )\n", minimum(n, m, 8)),
        ("min", SYMBOLS["min"]),
        ("min(min, n)", minimum(SYMBOLS["min"], n)),
        ("007", 7),
    ],
)
def test_reads_operators_and_spaces(text: str, dim: Dim) -> None:
    assert parse(text, SYMBOLS) == dim


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected an integer, a name or '\\(' at 0"),
        ("n +", "expected an integer, a name or '\\(' at 3"),
        ("n n", "expected an operator or the end at 2"),
        ("(n", "expected '\\)' at 2"),
        ("min(n, m", "expected '\\)' at 8"),
        ("n $ m", "unexpected character at 1"),
        ("n / m", "unexpected character at 1"),
        ("2 ** n", "expected an integer"),
        ("1.5", "unexpected character"),
        ("x + n", "unknown symbol x at 0"),
        ("sin(n)", "no function sin with 1 arguments"),
        ("min(n)", "no function min with 1 arguments"),
        ("mod(n, m, 2)", "no function mod with 3 arguments"),
        ("n // 0", "divisor 0"),
        ("mod(n, -2)", "divisor -2"),
        ("n\u00e9", "unexpected character"),
        ("\u0663", "unexpected character"),
    ],
)
def test_refuses_with_the_position(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(text, SYMBOLS)


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "-" * 100_000, "9" * 10_000, "n+" * 600_000, "min(n," * 5_000]
)
def test_hostile_text_gives_a_typed_error(text: str) -> None:
    with pytest.raises((InputError, LimitError)):
        parse(text, SYMBOLS)


@pytest.mark.parametrize("text", ["*".join(["n"] * 10_000), "*".join(["(n+m+1)"] * 100), "n//2" * 50])
def test_large_text_is_bounded(text: str) -> None:
    with pytest.raises(Error):
        parse(text, SYMBOLS)


@given(st.text(alphabet="nm(),+-*/% 0129min", max_size=30))
def test_any_text_parses_or_gives_a_typed_error(text: str) -> None:
    try:
        dim = parse(text, SYMBOLS)
    except (InputError, LimitError):
        return
    assert parse(to_text(dim), SYMBOLS) == dim
