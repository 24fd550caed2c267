"""Operators on strings, and the counting of n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ShapeError
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.ngrams import TfIdf
from dlc.ir.ops.strings import (
    RegexFullMatch,
    StringConcat,
    StringNormalizer,
    StringSplit,
    lower,
    upper,
)
from dlc.ir.types import TensorType
from tests.helpers.operators import run_one

N, W = Symbol("n"), Symbol("w")


def strings(*content: Any) -> np.ndarray[Any, Any]:
    return np.array(content, object)


def string(*shape: Any) -> TensorType:
    return TensorType(DType.STRING, shape)


def split(delimiter: str | None, limit: int | None, *texts: str) -> tuple[list[list[str]], list[int]]:
    parts, counts = StringSplit(delimiter, limit, string(N, W)).evaluate([strings(*texts)], int)
    assert counts.dtype == np.int64 and parts.dtype == object
    return parts.tolist(), counts.tolist()


def test_concat() -> None:
    result = run_one(StringConcat(), strings("a", "b"), strings(["x"], ["y"]))
    assert result.tolist() == [["ax", "bx"], ["ay", "by"]]
    assert run_one(StringConcat(), strings(), strings()).tolist() == []
    with pytest.raises(InferenceError, match="second operand must be of one of the types string"):
        StringConcat().infer([string(2), TensorType(DType.F32, (2,))])


def test_split() -> None:
    parts, counts = split(",", None, "a,b", "", ",", "c")
    assert parts == [["a", "b"], ["", ""], ["", ""], ["c", ""]] and counts == [2, 1, 2, 1]
    assert split(None, None, "  a  b ", "", "\tc\n") == ([["a", "b"], ["", ""], ["c", ""]], [2, 0, 1])
    assert split(",", 1, "a,b,c") == ([["a", "b,c"]], [2]) and split(",", 0, "a,b") == ([["a,b"]], [1])
    assert split(None, 1, " a  b  c ") == ([["a", "b  c"]], [2])
    nothing, none = StringSplit(",", None, string(0, W)).evaluate([strings()], int)
    assert nothing.shape == (0, 0) and none.shape == (0,)
    both, two = StringSplit(",", None, string(W)).evaluate([np.array("a,b", object)], int)
    assert both.tolist() == ["a", "b"] and two.shape == ()
    with pytest.raises(InferenceError, match="cannot be"):
        StringSplit(",", None, string(N)).infer([string(N)])


def test_regex_full_match() -> None:
    op = RegexFullMatch("a+b?")
    assert run_one(op, strings("aab", "b", "")).tolist() == [True, False, False]
    assert run_one(op, np.zeros((2, 0), object)).shape == (2, 0)
    with pytest.raises(ValueError, match="missing ]"):
        RegexFullMatch("[a")


NAMES = strings("Monday", "Tue", "monday", "É")


@pytest.mark.parametrize(
    ("case", "sensitive", "stopwords", "kept"),
    [
        ("none", True, (), ["Monday", "Tue", "monday", "É"]),
        ("none", True, ("monday",), ["Monday", "Tue", "É"]),
        ("none", False, ("MONDAY",), ["Tue", "É"]),
        ("lower", True, ("monday",), ["monday", "tue", "é"]),
        ("upper", False, ("monday", "tuE"), ["É"]),
        ("upper", False, ("monday", "tue", "é"), [""]),
    ],
)
def test_normalizer(case: str, sensitive: bool, stopwords: tuple[str, ...], kept: list[str]) -> None:
    (vector,) = StringNormalizer(case, sensitive, stopwords, string(N)).evaluate([NAMES], int)
    (matrix,) = StringNormalizer(case, sensitive, stopwords, string(1, N)).evaluate([NAMES[None]], int)
    assert vector.tolist() == kept and matrix.tolist() == [kept]


def test_normalizer_takes_one_row() -> None:
    op = StringNormalizer("none", True, (), string(M := Symbol("m"), N))
    assert op.infer([string(M, 3)]) == (string(M, N),)
    with pytest.raises(ShapeError, match="not 2 rows"):
        op.evaluate([np.array([["a"], ["b"]], object)], int)
    for types in ([string(2, 3)], [string()], [TensorType(DType.I64, (2,))]):
        with pytest.raises(InferenceError):
            op.infer(types)


def test_cases_change_character_by_character() -> None:
    assert upper("straße ﬁ ᾀ ıi éǆ") == "STRAßE ﬁ ᾈ II ÉǄ"
    assert lower("STRASSE ΑΣ É") == "strasse ασ é" and lower("İ") == "İ"


def count(
    op: TfIdf, x: Any, pool: list[Any], starts: list[int], outputs: list[int], weights: Any = None
) -> Any:
    dtype = object if isinstance(pool[0], str) else np.int64
    operands = [np.asarray(x), np.array(pool, dtype), np.array(starts), np.array(outputs)]
    operands += [] if weights is None else [np.array(weights, np.float32)]
    return run_one(op, *operands).tolist()


def test_ngrams() -> None:
    x = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int32)
    pool = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]
    starts, outputs = [0, 4], list(range(7))
    assert count(TfIdf("tf", 2, 2, 0, 7), x, pool, starts, outputs) == [[0] * 7, [0, 0, 0, 0, 1, 0, 1]]
    assert count(TfIdf("tf", 1, 2, 5, 7), x, pool, starts, outputs)[1] == [0, 0, 1, 0, 1, 1, 1]
    assert count(TfIdf("tf", 1, 1, 5, 7), x[1], pool, starts, outputs) == [0, 0, 1, 0, 0, 0, 0]
    assert count(TfIdf("tf", 1, 2, 2**40, 7), x[:, :0], pool, starts, outputs) == [[0] * 7] * 2


def test_ngrams_of_strings_and_weights() -> None:
    x, pool = strings("b", "a", "b"), ["a", "b", "a", "b"]
    starts, outputs, weights = [0, 2], [2, 0, 1], [10, 100, 0.5]
    assert count(TfIdf("tf", 1, 2, 0, 3), x, pool, starts, outputs, weights) == [2, 1, 1]
    assert count(TfIdf("tfidf", 1, 2, 0, 3), x, pool, starts, outputs, weights) == [200, 0.5, 10]
    assert count(TfIdf("idf", 1, 2, 0, 3), x, pool, starts, outputs, weights) == [100, 0.5, 10]
    assert count(TfIdf("idf", 1, 2, 0, 3), x, pool, starts, outputs) == [1, 1, 1]


@pytest.mark.parametrize(
    ("starts", "outputs"), [([0, 5], [0] * 9), ([0, 1], [0] * 9), ([2], [0]), ([0], [9] * 4)]
)
def test_pools_that_contradict_themselves(starts: list[int], outputs: list[int]) -> None:
    with pytest.raises(ShapeError):
        count(TfIdf("tf", 1, 2, 0, 3), np.array([1, 2]), [1, 2, 3, 4], starts, outputs)


def test_pools_fit_their_items() -> None:
    types = [string(N), TensorType(DType.I64, (4,)), TensorType(DType.I64, (1,)), TensorType(DType.I64, (4,))]
    with pytest.raises(InferenceError, match="a pool of i64 does not fit items of string"):
        TfIdf("tf", 1, 1, 0, 2).infer(types)
    with pytest.raises(InferenceError, match="out of range"):
        TfIdf("tf", 2, 1, 0, 2).infer([TensorType(DType.I64, (N,)), *types[1:]])
