"""Sequences, optionals and their types: inference, rejections, evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import IndexFault, InputError, ShapeError
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.optionals import Optional, OptionalGetElement, OptionalHasElement
from dlc.ir.ops.sequences import (
    ConcatFromSequence,
    Identity,
    SequenceAt,
    SequenceConstruct,
    SequenceErase,
    SequenceInsert,
    SequenceLength,
    SplitToSequence,
)
from dlc.ir.types import (
    ElementType,
    NoTensorType,
    OpenTensorType,
    OptionalType,
    SequenceType,
    TensorType,
    element_dtype,
    is_object,
    join,
    opened,
    type_dims,
    without,
)

N, M = Symbol("n"), Symbol("m")
I64 = TensorType(DType.I64, ())
X = np.arange(12, dtype=np.float32).reshape(3, 4)


def f32(*shape: Any) -> TensorType:
    return TensorType(DType.F32, shape)


def of(*shape: Any) -> OpenTensorType:
    return OpenTensorType(DType.F32, shape)


def evaluate(op: Any, *inputs: Any) -> Any:
    return op.evaluate(inputs, lambda dim: dim)[0]


def at(number: int) -> np.ndarray[Any, Any]:
    return np.array(number)


ANY_RANK = OpenTensorType(DType.F32, None)
EMPTY = NoTensorType(DType.F32)


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (of(2, 3), of(2, 3), of(2, 3)),
        (of(2, 3), of(4, 3), of(None, 3)),
        (of(N, 3), of(N, M), of(N, None)),
        (of(), of(), of()),
        (of(2), of(2, 3), ANY_RANK),
        (ANY_RANK, of(2), ANY_RANK),
        (EMPTY, of(2), of(2)),
        (EMPTY, EMPTY, EMPTY),
        (of(2), OpenTensorType(DType.I64, (2,)), None),
        (EMPTY, OpenTensorType(DType.I64, (2,)), None),
        (SequenceType(EMPTY), SequenceType(of(2)), SequenceType(of(2))),
        (SequenceType(of(2)), of(2), None),
        (OptionalType(of(2)), of(3), OptionalType(of(None))),
        (OptionalType(SequenceType(of(2))), SequenceType(EMPTY), OptionalType(SequenceType(of(2)))),
        (OptionalType(of(2)), OptionalType(SequenceType(of(2))), None),
    ],
    ids=str,
)
def test_join(left: ElementType, right: ElementType, both: ElementType | None) -> None:
    assert join(left, right) == join(right, left) == both
    for part in (left, right) if both is not None else ():
        assert join(part, both) == both


def test_questions_about_types() -> None:
    nested = OptionalType(SequenceType(of(N, None, 3)))
    assert type_dims(nested) == (N, 3) and element_dtype(nested) is DType.F32
    assert without(nested, lambda dim: dim is N) == OptionalType(SequenceType(of(None, None, 3)))
    assert type_dims(SequenceType(EMPTY)) == () and element_dtype(SequenceType(EMPTY)) is DType.F32
    assert opened(f32(N, 3)) == of(N, 3) and opened(nested) is nested
    assert is_object(TensorType(DType.STRING, ())) and is_object(nested) and not is_object(f32(2))
    texts = ["f32[2, ?]", "f32[...]", "seq<f32[none]>", "optional<seq<f32[n, ?, 3]>>"]
    assert list(map(str, (of(2, None), ANY_RANK, SequenceType(EMPTY), nested))) == texts


def test_construct() -> None:
    op = SequenceConstruct(SequenceType(of(None, 3)))
    assert op.infer([f32(2, 3), f32(N, 3)]) == (SequenceType(of(None, 3)),)
    assert [part.shape for part in evaluate(op, X, X[:1])] == [(3, 4), (1, 4)]
    with pytest.raises(InferenceError, match="an operand is none of"):
        op.infer([f32(2, 4)])
    with pytest.raises(InferenceError, match="cannot hold both"):
        op.infer([TensorType(DType.I64, (2, 3))])
    assert SequenceConstruct(SequenceType(EMPTY)).infer([]) == (SequenceType(EMPTY),)


def test_at() -> None:
    op = SequenceAt(f32(N, 4))
    assert op.infer([SequenceType(of(None, 4)), I64]) == (f32(N, 4),)
    parts = [X, X[:1]]
    assert evaluate(op, parts, at(0)) is X and evaluate(op, parts, np.array([-1], np.int32)) is parts[1]
    for position in (2, -3):
        with pytest.raises(IndexFault, match=f"position {position} is outside of \\[-2, 2\\)"):
            evaluate(op, parts, at(position))
    with pytest.raises(ShapeError, match=r"element 0 of a sequence is f32\[3, 4\], but f32\[n, 5\]"):
        evaluate(SequenceAt(f32(N, 5)), parts, at(0))
    assert evaluate(SequenceAt(ANY_RANK), parts, at(0)) is X
    integers = SequenceType(OpenTensorType(DType.I64, (2,)))
    for types in ([f32(2), I64], [integers, I64], [SequenceType(of(2)), f32()]):
        with pytest.raises(InferenceError):
            op.infer(types)


@pytest.mark.parametrize(
    ("position", "order"), [(None, "abx"), (0, "xab"), (2, "abx"), (-1, "axb"), (-2, "xab")]
)
def test_insert(position: int | None, order: str) -> None:
    a, b, x = np.zeros(1), np.zeros(2), np.zeros(3)
    operands = [[a, b], x] if position is None else [[a, b], x, at(position)]
    result = evaluate(SequenceInsert(), *operands)
    assert [len(part) for part in result] == [{"a": 1, "b": 2, "x": 3}[letter] for letter in order]
    assert len(operands[0]) == 2, "operands do not change"


def test_insert_checks_and_widens() -> None:
    assert SequenceInsert().infer([SequenceType(EMPTY), f32(2, N), None]) == (SequenceType(of(2, N)),)
    assert SequenceInsert().infer([SequenceType(of(2)), f32(2, N), I64]) == (SequenceType(ANY_RANK),)
    assert SequenceInsert().infer([SequenceType(of(2)), ANY_RANK]) == (SequenceType(ANY_RANK),)
    for position in (3, -3):
        with pytest.raises(IndexFault):
            evaluate(SequenceInsert(), [X, X], X, at(position))
    with pytest.raises(InferenceError, match="cannot hold both"):
        SequenceInsert().infer([SequenceType(of(2)), I64])


def test_erase_and_length() -> None:
    parts = [np.zeros(1), np.zeros(2), np.zeros(3)]
    assert [len(p) for p in evaluate(SequenceErase(), parts)] == [1, 2] and len(parts) == 3
    assert [len(p) for p in evaluate(SequenceErase(), parts, at(-3))] == [2, 3]
    length = evaluate(SequenceLength(), parts)
    assert length.dtype == np.int64 and length.item() == 3
    with pytest.raises(IndexFault):
        evaluate(SequenceErase(), [])
    assert SequenceErase().infer([SequenceType(of(2)), None]) == (SequenceType(of(2)),)
    assert SequenceLength().infer([SequenceType(of(2))]) == (I64,)


@pytest.mark.parametrize(
    ("split", "extents"),
    [(np.array(2), [2, 2]), (np.array(3), [3, 1]), (np.array(9), [4]), (np.array([1, 0, 3]), [1, 0, 3])],
)
def test_split(split: np.ndarray[Any, Any], extents: list[int]) -> None:
    parts = evaluate(SplitToSequence(1, True), X, split)
    assert [part.shape for part in parts] == [(3, extent) for extent in extents]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), X)


def test_split_without_extents() -> None:
    assert [p.shape for p in evaluate(SplitToSequence(0, True), X)] == [(1, 4)] * 3
    assert [p.shape for p in evaluate(SplitToSequence(0, False), X)] == [(4,)] * 3
    assert evaluate(SplitToSequence(0, False), X[:0]) == []
    types = [SplitToSequence(0, keep).infer([f32(N, 4)])[0] for keep in (True, False)]
    assert types == [SequenceType(of(1, 4)), SequenceType(of(4))]
    assert SplitToSequence(0, True).infer([f32(N, 4), I64]) == (SequenceType(of(None, 4)),)
    for split in (np.array(0), np.array([1, 1]), np.array([5, -1])):
        with pytest.raises(ShapeError):
            evaluate(SplitToSequence(1, True), X, split)


def test_concat() -> None:
    parts = [X, X[:1]]
    joined = evaluate(ConcatFromSequence(0, False, f32(N, 4)), parts)
    np.testing.assert_array_equal(joined, np.concatenate(parts))
    stacked = evaluate(ConcatFromSequence(2, True, f32(3, 4, N)), [X, X])
    np.testing.assert_array_equal(stacked, np.stack([X, X], axis=2))
    with pytest.raises(ShapeError, match="empty sequence"):
        evaluate(ConcatFromSequence(0, False, f32(N, 4)), [])
    with pytest.raises(ShapeError):
        evaluate(ConcatFromSequence(1, False, f32(3, N)), parts)
    with pytest.raises(ShapeError):
        evaluate(ConcatFromSequence(0, True, f32(N)), [X])
    with pytest.raises(InferenceError, match="axis 2 is outside"):
        ConcatFromSequence(2, False, f32(N, 4)).infer([SequenceType(of(None, 4))])


def test_optionals() -> None:
    op = Optional(OptionalType(of(None)))
    assert op.infer([f32(N)]) == op.infer([]) == (OptionalType(of(None)),)
    assert evaluate(op, X) is X and evaluate(op) is None
    with pytest.raises(InferenceError, match="cannot hold"):
        op.infer([f32(2, 3)])
    has = OptionalHasElement()
    assert has.infer([OptionalType(of(2))]) == (TensorType(DType.BOOL, ()),)
    assert evaluate(has, X).item() is True and evaluate(has, None).item() is False
    with pytest.raises(InferenceError, match="must be an optional"):
        has.infer([f32(2)])
    get = OptionalGetElement(f32(N, 4))
    assert get.infer([OptionalType(of(None, 4))]) == (f32(N, 4),) and evaluate(get, X) is X
    with pytest.raises(InputError, match="holds no value"):
        evaluate(get, None)
    with pytest.raises(ShapeError, match="the value of an optional"):
        evaluate(get, X[:, :2])
    with pytest.raises(InferenceError, match="cannot come out of"):
        get.infer([OptionalType(SequenceType(of(2)))])


def test_identity_takes_any_type() -> None:
    for type_ in (f32(N), ANY_RANK, SequenceType(of(2)), OptionalType(of(2))):
        assert Identity().infer([type_]) == (type_,)
    assert evaluate(Identity(), None) is None
    with pytest.raises(InferenceError):
        Identity().infer([])
