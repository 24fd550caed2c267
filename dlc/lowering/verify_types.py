"""The typing rules of value expressions and stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc.ir.dtypes import DType, Kind
from dlc.lowering import expr as e
from dlc.lowering.kernel import Contract, LocalTensor, Map, Monoid, Param, Recur, Reduce, Stage, Store
from dlc.lowering.monoids import ARG_MONOIDS

_ON_NUMBERS = frozenset({"add", "sub", "mul", "div", "pow", "mod", "fmod", "max", "min"})
_ON_BITS = frozenset({"and", "or", "xor"})
_SIGNED_TOO = frozenset({"abs", "neg", "sign"})


def expression_problems(
    node: e.Expr, params: Mapping[str, Param], locals_: Mapping[str, LocalTensor]
) -> Iterator[str]:
    """What is wrong with the types of one expression, its operands taken as they are."""
    dtype = node.dtype
    match node:
        case e.Const(_, value):
            if not _fits(value, dtype):
                yield f"the constant {value!r} is no {dtype.text}"
        case e.Iota():
            if not dtype.is_integer:
                yield f"iota gives integers, not {dtype.text}"
        case e.Load(_, name, index):
            param = params.get(name)
            if param is not None and param.type.dtype is not dtype:
                yield f"{name} holds {param.type.dtype.text}, not {dtype.text}"
            for entry in index:
                if isinstance(entry, e.Expr) and entry.dtype is not DType.I64:
                    yield f"an index into {name} is {entry.dtype.text}, not i64"
            yield from _guard_problems(node, name)
        case e.Read(_, name):
            local = locals_.get(name)
            if local is not None and local.dtype is not dtype:
                yield f"{name} holds {local.dtype.text}, not {dtype.text}"
            yield from _guard_problems(node, name)
        case e.Unary():
            yield from _unary_problems(node)
        case e.Binary():
            yield from _binary_problems(node)
        case e.Compare(_, fn, left, right):
            if dtype is not DType.BOOL or fn not in e.COMPARE:
                yield f"{fn} is no comparison that gives {dtype.text}"
            if left.dtype is not right.dtype:
                yield f"{fn} compares {left.dtype.text} with {right.dtype.text}"
            if not (is_arithmetic(left.dtype) or (left.dtype is DType.BOOL and fn in ("eq", "ne"))):
                yield f"{left.dtype.text} elements are not compared by {fn}"
        case e.Select(_, condition, then, otherwise):
            if condition.dtype is not DType.BOOL:
                yield f"select chooses by {condition.dtype.text}, not by bool"
            if not then.dtype is otherwise.dtype is dtype:
                yield f"select gives {dtype.text} from {then.dtype.text} and {otherwise.dtype.text}"
        case e.Cast(_, operand, mode):
            kinds = {operand.dtype.kind, dtype.kind}
            if Kind.STRING in kinds or (Kind.COMPLEX in kinds and mode is not e.CastMode.BITS):
                yield f"{operand.dtype.text} is not converted to {dtype.text}"
            if mode is e.CastMode.BITS and operand.dtype.bits != dtype.bits:
                yield f"{operand.dtype.text} and {dtype.text} are of different width"


def is_arithmetic(dtype: DType) -> bool:
    """Whether there is arithmetic on elements of `dtype`: integers of 8 bits and more, f32 and f64."""
    return dtype in (DType.F32, DType.F64) or (dtype.is_integer and dtype.bits >= 8)


def _fits(value: float | int | bool, dtype: DType) -> bool:
    if dtype is DType.BOOL:
        return isinstance(value, bool)
    if dtype.kind is Kind.COMPLEX:
        return value == 0 and isinstance(value, int)
    return isinstance(value, float) if dtype.is_float else isinstance(value, int) and dtype.is_integer


def _guard_problems(node: e.Load | e.Read, name: str) -> Iterator[str]:
    if bool(node.mask) != (node.other is not None):
        yield f"an access to {name} needs a mask and another value, or neither"
    if node.other is not None and node.other.dtype is not node.dtype:
        yield f"an access to {name} gives {node.dtype.text}, or else {node.other.dtype.text}"


def _unary_problems(node: e.Unary) -> Iterator[str]:
    operand, fn = node.operand.dtype, node.fn
    if fn not in e.UNARY:
        yield f"there is no function {fn} of one operand"
    elif fn == "not":
        if not (operand is DType.BOOL or (operand.is_integer and is_arithmetic(operand))):
            yield f"not is for bool and integers, not {operand.text}"
    elif not is_arithmetic(operand) or not (operand.is_float or fn in _SIGNED_TOO):
        yield f"there is no {fn} of {operand.text}"
    if node.dtype is not (DType.BOOL if fn == "is_nan" else operand):
        yield f"{fn} of {operand.text} does not give {node.dtype.text}"


def _binary_problems(node: e.Binary) -> Iterator[str]:
    left, right, fn = node.left.dtype, node.right.dtype, node.fn
    if not left is right is node.dtype:
        yield f"{fn} gives {node.dtype.text} from {left.text} and {right.text}"
    if fn in _ON_NUMBERS:
        legal = is_arithmetic(left)
    elif fn in _ON_BITS:
        legal = left is DType.BOOL or (left.is_integer and is_arithmetic(left))
    else:
        legal = fn in e.BINARY and left.is_integer and is_arithmetic(left)
    if not legal:
        yield f"there is no {fn} of {left.text}"


def stage_problems(stage: Stage, params: Mapping[str, Param]) -> Iterator[str]:
    """What is wrong with the types of what a stage defines or stores."""
    match stage:
        case Map(out, value):
            yield from _same(out, value.dtype)
        case Store():
            param = params.get(stage.param)
            if param is not None and param.type.dtype is not stage.value.dtype:
                yield f"{stage.param} holds {param.type.dtype.text}, not {stage.value.dtype.text}"
            for entry in stage.index:
                if isinstance(entry, e.Expr) and entry.dtype is not DType.I64:
                    yield f"an index into {stage.param} is {entry.dtype.text}, not i64"
        case Reduce():
            yield from _reduce_problems(stage)
        case Contract(out):
            yield from _contract_problems(stage, out.dtype)
        case Recur():
            for state in stage.states:
                yield from _same(state.local, state.start.dtype)
                yield from _same(state.local, state.next.dtype)


def _same(local: LocalTensor, dtype: DType) -> Iterator[str]:
    if local.dtype is not dtype:
        yield f"{local.name} holds {local.dtype.text}, not {dtype.text}"


def _reduce_problems(reduce: Reduce) -> Iterator[str]:
    count = 2 if reduce.monoid in ARG_MONOIDS else 1
    if not len(reduce.outs) == len(reduce.values) == count:
        yield f"{reduce.monoid.value} is of {count} values"
        return
    for out, value in zip(reduce.outs, reduce.values):
        yield from _same(out, value.dtype)
    if len({out.axes for out in reduce.outs}) > 1:
        yield "the results of a reduction have different axes"
    logical = reduce.monoid in (Monoid.AND, Monoid.OR)
    dtype = reduce.values[0].dtype
    if not (dtype is DType.BOOL if logical else is_arithmetic(dtype)):
        yield f"there is no {reduce.monoid.value} of {dtype.text}"
    if count == 2 and not reduce.values[1].dtype.is_integer:
        yield f"{reduce.monoid.value} takes an index of integers, not {reduce.values[1].dtype.text}"


def _contract_problems(contract: Contract, out: DType) -> Iterator[str]:
    for operand in (contract.left, contract.right):
        if operand.dtype is not out:
            yield f"a contraction in {out.text} cannot take {operand.dtype.text}"
    if not is_arithmetic(out):
        yield f"nothing is summed in {out.text}"
