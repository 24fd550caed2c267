"""Small models of control flow and of sizes that only the run tells, as ONNX text, with inputs to try."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import parser

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and inputs to run it on, one dictionary a run.

    `reference` and `onnxruntime` tell who can judge: the ONNX reference fails to stack no elements, or
    scalars, knows no absent condition and scans forwards only.
    """

    name: str
    text: str
    feeds: Callable[[np.random.Generator], list[dict[str, Array]]]
    opset: int = 18
    reference: bool = True
    onnxruntime: bool = True

    def model(self) -> onnx.ModelProto:
        """The model; its outputs declare no shapes."""
        header = f'<ir_version: 8, opset_import: ["": {self.opset}]>'
        model = parser.parse_model(f"{header}\n{self.text}")
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        return model


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Normal float32 numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def number(value: int) -> Array:
    """An i64 scalar."""
    return np.array(value, np.int64)


IF_ON_DATA = Case(
    "if_on_data",
    """main (float[n, 4] x, bool c) => (float[n, 4] y) {
      y = If (c) <then_branch = yes () => (float[n, 4] a) {
          b = Exp(x)
          a = Add(b, x)
        }, else_branch = no () => (float[n, 4] a) { a = Neg(x) }>
    }""",
    lambda rng: [{"x": normal(rng, n, 4), "c": np.array(c)} for n in (1, 3) for c in (True, False)],
)

IF_ON_COMPUTED_CONDITION = Case(
    "if_on_computed_condition",
    """main (float[n] x) => (float[n] y, float[n] z) {
      zero = Constant <value_float = 0.0> ()
      s = ReduceSum <keepdims = 0> (x)
      c = Greater(s, zero)
      e = Exp(x)
      y, w = If (c) <then_branch = yes () => (float[n] a, float[n] b) {
          a = Mul(e, s)
          b = Identity(x)
        }, else_branch = no () => (float[n] p, float[n] q) {
          p = Identity(e)
          q = Identity(e)
        }>
      z = Sub(w, e)
    }""",
    lambda rng: [{"x": np.abs(normal(rng, 5))}, {"x": -np.abs(normal(rng, 3))}],
)

IF_OF_DIFFERENT_SHAPES = Case(
    "if_of_different_shapes",
    """main (float[n, 4] x, bool c) => (float[m, k] y, float[m] s) {
      y = If (c) <then_branch = yes () => (float[a, b] r) { r = Concat <axis = 0> (x, x) },
        else_branch = no () => (float[a, b] r) { r = Transpose(x) }>
      t = Mul(y, y)
      s = ReduceSum <keepdims = 0> (t)
    }""",
    lambda rng: [{"x": normal(rng, n, 4), "c": np.array(c)} for n in (1, 6, 0) for c in (True, False)],
)

NESTED_IF = Case(
    "nested_if",
    """main (float[n] x, int64 k) => (float[n] y) {
      zero = Constant <value_int = 0> ()
      one = Constant <value_int = 1> ()
      small = Less(k, zero)
      y = If (small) <then_branch = negative () => (float[n] a) { a = Neg(x) },
        else_branch = other () => (float[n] b) {
          is_zero = Equal(k, zero)
          b = If (is_zero) <then_branch = nothing () => (float[n] c) { c = Identity(x) },
            else_branch = positive () => (float[n] d) {
              f = Cast <to = 1> (k)
              d = Mul(x, f)
            }>
        }>
    }""",
    lambda rng: [{"x": normal(rng, 7), "k": number(k)} for k in (-1, 0, 3)],
)

LOOP_FIXED_TRIP = Case(
    "loop_fixed_trip",
    """main (float[n, 4] x, float[4, 4] w) => (float[n, 4] y) {
      trip = Constant <value_int = 5> ()
      yes = Constant <value = bool {1}> ()
      y = Loop (trip, yes, x) <body = step (int64 i, bool go, float[n, 4] h) => (bool on, float[n, 4] g) {
          on = Identity(go)
          p = MatMul(h, w)
          g = Tanh(p)
        }>
    }""",
    lambda rng: [{"x": normal(rng, n, 4), "w": normal(rng, 4, 4)} for n in (1, 9)],
)

LOOP_TRIP_FROM_DATA = Case(
    "loop_trip_from_data",
    """main (float[n] x, int64 trip) => (float[n] y, int64 last, float[t, n] all) {
      yes = Constant <value = bool {1}> ()
      minus = Constant <value_int = -1> ()
      y, last, all = Loop (trip, yes, x, minus) <body = step (int64 i, bool go, float[n] h, int64 before)
          => (bool go_on, float[n] g, int64 now, float[n] seen) {
          go_on = Identity(go)
          f = Cast <to = 1> (i)
          g = Add(h, f)
          now = Identity(i)
          seen = Mul(h, f)
        }>
    }""",
    lambda rng: [{"x": normal(rng, 4), "trip": number(t)} for t in (3, 0, 1, 17)],
    reference=False,
)

WHILE_LOOP = Case(
    "while_loop",
    """main (float[n] x, float limit) => (float[n] y, int64 count) {
      zero = Constant <value_int = 0> ()
      one = Constant <value_int = 1> ()
      s = ReduceSum <keepdims = 0> (x)
      start = Less(s, limit)
      y, count = Loop ("", start, x, zero) <body = step (int64 i, bool go, float[n] h, int64 c)
          => (bool more, float[n] g, int64 d) {
          g = Add(h, h)
          d = Add(c, one)
          t = ReduceSum <keepdims = 0> (g)
          more = Less(t, limit)
        }>
    }""",
    lambda rng: [
        {"x": np.abs(normal(rng, 4)), "limit": np.array(limit, np.float32)} for limit in (100.0, 0.0, 5.0)
    ],
    reference=False,
)

BREAK_WITH_STACK = Case(
    "break_with_stack",
    """main (float[n] x, int64 trip, float limit) => (float[n] y, float[r, n] rows, float[r] sums) {
      yes = Constant <value = bool {1}> ()
      y, rows, sums = Loop (trip, yes, x) <body = step (int64 i, bool go, float[n] h)
          => (bool more, float[n] g, float[n] row, float total) {
          g = Add(h, h)
          row = Sub(g, h)
          total = ReduceSum <keepdims = 0> (g)
          more = Less(total, limit)
        }>
    }""",
    lambda rng: [
        {"x": np.abs(normal(rng, 3)), "trip": number(trip), "limit": np.array(limit, np.float32)}
        for trip, limit in ((100, 50.0), (3, 1e9), (0, 1.0), (5, 0.0), (2**63 - 1, 9.0))
    ],
    reference=False,
)

GROWING_STATE = Case(
    "growing_state",
    """main (float[n, 2] x, int64 trip) => (float[m, 2] y, float[k] s) {
      yes = Constant <value = bool {1}> ()
      y = Loop (trip, yes, x) <body = step (int64 i, bool go, float[a, 2] h) => (bool on, float[b, 2] g) {
          on = Identity(go)
          f = Cast <to = 1> (i)
          z = Mul(x, f)
          g = Concat <axis = 0> (h, z)
        }>
      axis = Constant <value_ints = [1]> ()
      s = ReduceSum <keepdims = 0> (y, axis)
    }""",
    lambda rng: [{"x": normal(rng, n, 2), "trip": number(trip)} for n, trip in ((1, 5), (3, 0), (2, 60))],
)

SWAPPED_STATES = Case(
    "swapped_states",
    """main (float[n] a, float[n] b, float[n] c, int64 trip) => (float[n] x, float[n] y, float[n] z) {
      yes = Constant <value = bool {1}> ()
      x, y, z = Loop (trip, yes, a, b, c) <body = step (int64 i, bool go, float[n] p, float[n] q, float[n] r)
          => (bool on, float[n] s, float[n] t, float[n] u) {
          on = Identity(go)
          s = Identity(q)
          t = Identity(p)
          u = Add(p, r)
        }>
    }""",
    lambda rng: [
        {"a": normal(rng, 3), "b": normal(rng, 3), "c": normal(rng, 3), "trip": number(t)}
        for t in (0, 1, 2, 5)
    ],
)

FIBONACCI = Case(
    "fibonacci",
    """main (int64[2] start, int64 trip) => (int64[1] f, int64[t, 1] seen) {
      yes = Constant <value = bool {1}> ()
      zero = Constant <value_ints = [0]> ()
      one = Constant <value_ints = [1]> ()
      a = Gather(start, zero)
      b = Gather(start, one)
      f, last, seen = Loop (trip, yes, a, b) <body = step (int64 i, bool go, int64[1] p, int64[1] q)
          => (bool on, int64[1] s, int64[1] t, int64[1] old) {
          on = Identity(go)
          s = Identity(q)
          t = Add(p, q)
          old = Identity(p)
        }>
    }""",
    lambda rng: [{"start": np.array([0, 1]), "trip": number(t)} for t in (0, 1, 12)],
    reference=False,
)

IF_IN_LOOP = Case(
    "if_in_loop",
    """main (float[t, n] x) => (float[n] y, float[t, n] all) {
      yes = Constant <value = bool {1}> ()
      zero = Constant <value_int = 0> ()
      two = Constant <value_int = 2> ()
      shape = Shape(x)
      trip = Gather(shape, zero)
      first = Gather(x, zero)
      y, all = Loop (trip, yes, first) <body = step (int64 i, bool go, float[n] h)
          => (bool on, float[n] g, float[n] row) {
          on = Identity(go)
          row = Gather(x, i)
          rest = Mod(i, two)
          even = Equal(rest, zero)
          g = If (even) <then_branch = plus () => (float[n] a) { a = Add(h, row) },
            else_branch = minus () => (float[n] b) {
              m = Mul(row, row)
              b = Sub(h, m)
            }>
        }>
    }""",
    lambda rng: [{"x": normal(rng, t, n)} for t, n in ((5, 3), (1, 8), (2, 1))],
)

NESTED_LOOPS = Case(
    "nested_loops",
    """main (float[n] x, int64 outer, int64 inner) => (float[n] y, float[o, n] rows) {
      yes = Constant <value = bool {1}> ()
      y, rows = Loop (outer, yes, x) <body = step (int64 i, bool go, float[n] h)
          => (bool on, float[n] g, float[n] row) {
          on = Identity(go)
          k = Loop (inner, yes, h) <body = deep (int64 j, bool go2, float[n] p) => (bool on2, float[n] q) {
              on2 = Identity(go2)
              ij = Add(i, j)
              f = Cast <to = 1> (ij)
              u = Add(p, f)
              q = Tanh(u)
            }>
          g = Add(k, h)
          row = Sub(k, h)
        }>
    }""",
    lambda rng: [
        {"x": normal(rng, 4), "outer": number(o), "inner": number(i)} for o, i in ((3, 2), (2, 0), (0, 4))
    ],
    reference=False,
)

BREAK_ON_OLD_STATE = Case(
    "break_on_old_state",
    """main (float[n] x, bool first) => (float[n] y, bool last) {
      trip = Constant <value_int = 10> ()
      yes = Constant <value = bool {1}> ()
      y, last = Loop (trip, yes, x, first) <body = step (int64 i, bool go, float[n] h, bool flag)
          => (bool more, float[n] g, bool next) {
          more = Identity(flag)
          one = Constant <value_int = 1> ()
          next = Less(i, one)
          g = Add(h, x)
        }>
    }""",
    lambda rng: [{"x": normal(rng, 3), "first": np.array(b)} for b in (True, False)],
)

SCAN_SUM = Case(
    "scan_sum",
    """main (float[n] h, float[t, n] x) => (float[n] y, float[t, n] all) {
      y, all = Scan <num_scan_inputs = 1, body = step (float[n] s, float[n] e) => (float[n] r, float[n] q) {
          r = Add(s, e)
          q = Mul(r, e)
        }> (h, x)
    }""",
    lambda rng: [{"h": normal(rng, n), "x": normal(rng, t, n)} for t, n in ((4, 3), (1, 1), (7, 20))],
)

SCAN_AXES = Case(
    "scan_axes",
    """main (float[2] h, float[3] k, float[2, t] x, float[t, 3] z)
        => (float[2] y, float[3] w, float[2, t] p, float[t, 3] q) {
      y, w, p, q = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
          scan_output_axes = [-1, 0], scan_output_directions = [1, 0],
          body = step (float[2] a, float[3] b, float[2] u, float[3] v)
            => (float[2] c, float[3] d, float[2] e, float[3] f) {
          c = Add(a, u)
          d = Sub(b, v)
          e = Mul(c, u)
          f = Identity(d)
        }> (h, k, x, z)
    }""",
    lambda rng: [
        {"h": normal(rng, 2), "k": normal(rng, 3), "x": normal(rng, 2, t), "z": normal(rng, t, 3)}
        for t in (5, 1)
    ],
    reference=False,
)

SCAN_RNN = Case(
    "scan_rnn",
    """main (float[b, 8] h, float[t, b, 4] x, float[4, 8] w, float[8, 8] u)
        => (float[b, 8] y, float[t, b, 8] all) {
      y, all = Scan <num_scan_inputs = 1, body = step (float[b, 8] s, float[b, 4] e)
            => (float[b, 8] r, float[b, 8] q) {
          i = MatMul(e, w)
          j = MatMul(s, u)
          k = Add(i, j)
          r = Tanh(k)
          q = Identity(r)
        }> (h, x)
    }""",
    lambda rng: [
        {"h": normal(rng, b, 8), "x": normal(rng, t, b, 4), "w": normal(rng, 4, 8), "u": normal(rng, 8, 8)}
        for b, t in ((1, 3), (5, 6))
    ],
)

SCATTER_STATE = Case(
    "scatter_state",
    """main (float[n, m] x, float[1, m] row, int64 trip) => (float[n, m] y, float[n, m] z) {
      yes = Constant <value = bool {1}> ()
      y, z = Loop (trip, yes, x, x) <body = step (int64 i, bool go, float[n, m] h, float[n, m] p)
          => (bool on, float[n, m] g, float[n, m] q) {
          on = Identity(go)
          shape = Constant <value = int64[2] {1, 1}> ()
          at = Reshape(i, shape)
          f = Cast <to = 1> (i)
          r = Mul(row, f)
          g = ScatterND(h, at, r)
          s = ScatterND(p, at, r)
          q = Add(s, p)
        }>
    }""",
    lambda rng: [
        {"x": normal(rng, n, m), "row": normal(rng, 1, m), "trip": number(t)}
        for n, m, t in ((4, 3, 2), (5, 17, 5), (1, 1, 0))
    ],
)

CONTROL = [
    IF_ON_DATA,
    IF_ON_COMPUTED_CONDITION,
    IF_OF_DIFFERENT_SHAPES,
    NESTED_IF,
    LOOP_FIXED_TRIP,
    LOOP_TRIP_FROM_DATA,
    WHILE_LOOP,
    BREAK_WITH_STACK,
    GROWING_STATE,
    SWAPPED_STATES,
    FIBONACCI,
    IF_IN_LOOP,
    NESTED_LOOPS,
    BREAK_ON_OLD_STATE,
    SCATTER_STATE,
    SCAN_SUM,
    SCAN_AXES,
    SCAN_RNN,
]
