"""Operators on maps and the look-up of strings, and how they print."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph
from dlc.ir.operator import InferenceError
from dlc.ir.ops.maps import CastMap, DictVectorizer, StringAt, StringIndex, ZipMap
from dlc.ir.parse import parse
from dlc.ir.text import to_text
from dlc.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    TensorType,
    element_dtype,
    is_object,
    join,
    type_dims,
)

FLOATS, TEXTS = MapType(DType.I64, DType.F32), MapType(DType.I64, DType.STRING)
NAMED = MapType(DType.STRING, DType.F64)


def test_types_of_maps() -> None:
    assert str(SequenceType(FLOATS)) == "seq<map<i64, f32>>"
    assert is_object(FLOATS) and type_dims(SequenceType(FLOATS)) == ()
    assert element_dtype(OptionalType(NAMED)) is DType.F64
    assert join(FLOATS, FLOATS) == FLOATS and join(FLOATS, TEXTS) is None
    assert join(SequenceType(FLOATS), OptionalType(SequenceType(FLOATS))) == OptionalType(
        SequenceType(FLOATS)
    )


def test_text_reads_back() -> None:
    graph = Graph()
    builder = GraphBuilder(graph)
    x = graph.add_input("x", TensorType(DType.F32, (Symbol("n"), 2)))
    words = graph.add_input("words", TensorType(DType.STRING, (3,)))
    named = graph.add_input("named", NAMED)
    results = [
        builder.add(ZipMap(("a", 'quoted "b"')), x),
        builder.add(ZipMap((1, -2)), x),
        builder.add(StringIndex(("é", "\n", "")), words),
        builder.add(DictVectorizer(("k",), NAMED), named),
    ]
    for number, value in enumerate(results):
        graph.add_output(value, f"y{number}")
    text = to_text(graph)
    assert to_text(parse(text)) == text


def evaluate(operator: Any, operand: Any) -> Any:
    (result,) = operator.evaluate([operand], lambda dim: dim)
    return result


def test_string_index() -> None:
    words = np.array([["b", "c"], ["a", ""]], object)
    assert evaluate(StringIndex(("a", "b")), words).tolist() == [[1, 2], [0, 2]]
    assert evaluate(StringIndex(()), words).tolist() == [[0, 0], [0, 0]]


def test_string_at() -> None:
    table = StringAt(("a", "bc"))
    assert evaluate(table, np.array([[1, 0], [1, 1]])).tolist() == [["bc", "a"], ["bc", "bc"]]
    scalar = evaluate(table, np.array(1))
    assert scalar.shape == () and scalar.item() == "bc" and scalar.dtype == object


def test_zip_map() -> None:
    x = np.array([[0.5, 0.25], [1, 2]], np.float32)
    assert evaluate(ZipMap(("a", "b")), x) == [{"a": 0.5, "b": 0.25}, {"a": 1.0, "b": 2.0}]
    assert evaluate(ZipMap((3, 3)), x) == [{3: 0.25}, {3: 2.0}]
    assert evaluate(ZipMap((3, 4)), x[:0]) == []


def test_dict_vectorizer() -> None:
    result = evaluate(DictVectorizer(("x", "y", "x"), NAMED), {"x": 2.5, "z": 1.0})
    assert result.tolist() == [[2.5, 0.0, 2.5]] and result.dtype == np.float64
    assert evaluate(DictVectorizer((7, 8), TEXTS), {8: "eight"}).tolist() == [["", "eight"]]


@pytest.mark.parametrize(
    ("source", "to", "values", "dense", "sparse"),
    [
        (FLOATS, DType.F32, {2: 1.5, 0: -2.5}, [-2.5, 1.5], [-2.5, 0.0, 1.5, 0.0]),
        (FLOATS, DType.I64, {2: 1.75, 0: -2.5}, [-2, 1], [-2, 0, 1, 0]),
        (TEXTS, DType.F32, {9: "3", 1: "1.5"}, [1.5, 3.0], [0.0, 1.5, 0.0, 0.0]),
        (TEXTS, DType.STRING, {9: "z", 1: "a"}, ["a", "z"], ["0.f", "a", "0.f", "0.f"]),
        (TEXTS, DType.I64, {}, [], [0, 0, 0, 0]),
    ],
)
def test_cast_map(source: MapType, to: DType, values: Any, dense: list[Any], sparse: list[Any]) -> None:
    assert evaluate(CastMap(source, TensorType(to, (1, Symbol("n"))), True), values).tolist() == [dense]
    assert evaluate(CastMap(source, TensorType(to, (1, 4)), False), values).tolist() == [sparse]


def test_cast_map_refuses_what_it_cannot_place_or_read() -> None:
    with pytest.raises(InputError, match="-1, a negative number"):
        evaluate(CastMap(FLOATS, TensorType(DType.F32, (1, 4)), False), {-1: 1.0, 2: 3.0})
    with pytest.raises(InputError, match="no number"):
        evaluate(CastMap(TEXTS, TensorType(DType.F32, (1, 4)), False), {1: "one"})


def test_wrong_operands() -> None:
    with pytest.raises(InferenceError, match="must be a map<i64, f32>"):
        DictVectorizer((1,), FLOATS).infer([TEXTS])
    with pytest.raises(InferenceError, match="columns and of keys"):
        ZipMap((1, 2)).infer([TensorType(DType.F32, (4, 3))])
    with pytest.raises(ValueError, match="some integers or some strings"):
        ZipMap(())
    with pytest.raises(ValueError, match="none of a map"):
        DictVectorizer(("a",), FLOATS)
