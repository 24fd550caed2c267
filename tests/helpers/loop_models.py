"""More loops, scans and branches: what is captured, permuted, stacked, nested, never run.

onnxruntime refuses to scan nothing, and increments an iteration number that is a result of the body.
"""

from __future__ import annotations

import numpy as np

from tests.helpers.control_models import Case, normal, number

SCAN_IN_LOOP = Case(
    "scan_in_loop",
    """main (float[n] x, float[t, n] rows, int64 trip) => (float[n] y, float[k, t, n] all) {
      y, all = Loop (trip, "", x) <body = step (int64 i, bool go, float[n] h)
          => (bool on, float[n] g, float[t, n] path) {
          on = Identity(go)
          f = Cast <to = 1> (i)
          g, path = Scan <num_scan_inputs = 1, body = inner (float[n] s, float[n] e)
              => (float[n] r, float[n] q) {
              u = Add(s, e)
              r = Tanh(u)
              q = Mul(r, f)
            }> (h, rows)
        }>
    }""",
    lambda rng: [
        {"x": normal(rng, n), "rows": normal(rng, t, n), "trip": number(k)}
        for n, t, k in ((4, 3, 2), (1, 1, 1), (17, 5, 4), (3, 2, 0))
    ],
    reference=False,
)

LOOP_IN_IF = Case(
    "loop_in_if",
    """main (float[n] x, int64 trip, bool c) => (float[n] y) {
      two = Constant <value_float = 2.0> ()
      z = Mul(x, two)
      y = If (c) <then_branch = yes () => (float[n] a) {
          a = Loop (trip, "", z) <body = step (int64 i, bool go, float[n] h) => (bool on, float[n] g) {
              on = Identity(go)
              u = Sub(h, x)
              g = Sin(u)
            }>
        }, else_branch = no () => (float[n] b) { b = Identity(z) }>
    }""",
    lambda rng: [
        {"x": normal(rng, n), "trip": number(t), "c": np.array(c)}
        for n, t, c in ((3, 4, True), (3, 4, False), (8, 0, True))
    ],
    reference=False,
)

DEEP_CAPTURE = Case(
    "deep_capture",
    """main (float[n, m] x, float[m] w, int64 outer, int64 inner) => (float[n, m] y) {
      y = Loop (outer, "", x) <body = step (int64 i, bool go, float[n, m] h) => (bool on, float[n, m] g) {
          on = Identity(go)
          zero = Constant <value_int = 0> ()
          first = Equal(i, zero)
          d = Loop (inner, "", h) <body = deep (int64 j, bool go2, float[n, m] p)
              => (bool on2, float[n, m] q) {
              on2 = Identity(go2)
              q = If (first) <then_branch = yes () => (float[n, m] a) { a = Mul(p, w) },
                else_branch = no () => (float[n, m] b) {
                  ij = Add(i, j)
                  f = Cast <to = 1> (ij)
                  v = Mul(w, f)
                  b = Add(p, v)
                }>
            }>
          g = Add(d, x)
        }>
    }""",
    lambda rng: [
        {"x": normal(rng, n, m), "w": normal(rng, m), "outer": number(o), "inner": number(i)}
        for n, m, o, i in ((2, 3, 3, 2), (1, 1, 2, 5), (4, 20, 1, 0))
    ],
    reference=False,
)

ROTATED_STATES = Case(
    "rotated_states",
    """main (float[n] a, float[n] b, float[n] c, int64 trip)
        => (float[n] x, float[n] y, float[n] z, float[t, n] old, float[t, n] new) {
      x, y, z, old, new = Loop (trip, "", a, b, c)
          <body = step (int64 i, bool go, float[n] p, float[n] q, float[n] r)
          => (bool on, float[n] s, float[n] t0, float[n] u, float[n] before, float[n] after) {
          on = Identity(go)
          s = Identity(q)
          t0 = Identity(r)
          u = Identity(p)
          before = Identity(p)
          after = Identity(q)
        }>
    }""",
    lambda rng: [
        {"a": normal(rng, 3), "b": normal(rng, 3), "c": normal(rng, 3), "trip": number(t)}
        for t in (0, 1, 2, 4)
    ],
    reference=False,
)

SHARED_NEXT_STATE = Case(
    "shared_next_state",
    """main (float[n] a, float[n] b, int64 trip) => (float[n] x, float[n] y, float[t, n] e, float[t, n] f) {
      x, y, e, f = Loop (trip, "", a, b) <body = step (int64 i, bool go, float[n] p, float[n] q)
          => (bool on, float[n] r, float[n] r, float[n] r, float[n] q) {
          on = Identity(go)
          r = Sub(p, q)
        }>
    }""",
    lambda rng: [{"a": normal(rng, 5), "b": normal(rng, 5), "trip": number(t)} for t in (0, 1, 3)],
    reference=False,
)

PLAIN_BODY_OUTPUTS = Case(
    "plain_body_outputs",
    """main (float[n] x, float[n] w, int64 trip)
        => (float[n] y, int64 last, float[n] w2, float[2] c, float[t, n] ws, float[t, 2] cs) {
      yes = Constant <value = bool {1}> ()
      minus = Constant <value_int = -1> ()
      start = Constant <value_floats = [5.0, 6.0]> ()
      y, last, w2, c, ws, cs = Loop (trip, yes, x, minus, x, start)
          <body = step (int64 i, bool go, float[n] h, int64 l, float[n] v, float[2] k)
          => (bool on, float[n] g, int64 i, float[n] w0, float[2] fixed, float[n] w0, float[2] fixed) {
          on = Identity(go)
          w0 = Identity(w)
          fixed = Constant <value_floats = [1.0, 2.0]> ()
          g = Add(h, v)
        }>
    }""",
    lambda rng: [{"x": normal(rng, 4), "w": normal(rng, 4), "trip": number(t)} for t in (1, 3)],
    onnxruntime=False,
)

UNCHANGED_STATE = Case(
    "unchanged_state",
    """main (float[n] x, float[n] w, int64 trip) => (float[n] y, float[n] v, float[n] z) {
      y, v = Loop (trip, "", x, w) <body = step (int64 i, bool go, float[n] h, float[n] k)
          => (bool on, float[n] g, float[n] k2) {
          on = Identity(go)
          g = Mul(h, k)
          k2 = Identity(k)
        }>
      z = Add(y, v)
    }""",
    lambda rng: [{"x": normal(rng, 4), "w": normal(rng, 4), "trip": number(t)} for t in (0, 2)],
    reference=False,
)

OUTER_SCOPE_WEIGHTS = Case(
    "outer_scope_weights",
    """main (float[b, 3] x, int64 trip) => (float[b, 3] y, float[t, b] sums)
      <float[3, 3] w = {0.5, -1.0, 0.25, 0.0, 1.0, 0.5, -0.5, 0.125, 1.0}> {
      bias = Constant <value_floats = [0.1, 0.2, 0.3]> ()
      y, sums = Loop (trip, "", x) <body = step (int64 i, bool go, float[b, 3] h)
          => (bool on, float[b, 3] g, float[b] total) {
          on = Identity(go)
          axis = Constant <value_ints = [1]> ()
          m = MatMul(h, w)
          a = Add(m, bias)
          g = Relu(a)
          total = ReduceSum <keepdims = 0> (g, axis)
        }>
    }""",
    lambda rng: [{"x": normal(rng, b, 3), "trip": number(t)} for b, t in ((2, 3), (1, 1), (17, 6))],
    reference=False,
)

COUNTDOWN_SHAPES = Case(
    "countdown_shapes",
    """main (float[n] x, int64 trip) => (float[m] y, float total) {
      y, total = Loop (trip, "", x, zero) <body = step (int64 i, bool go, float[a] h, float s)
          => (bool on, float[b] g, float s2) {
          on = Identity(go)
          one = Constant <value_ints = [1]> ()
          end = Constant <value_ints = [9223372036854775807]> ()
          g = Slice(h, one, end)
          part = ReduceSum <keepdims = 0> (g)
          s2 = Add(s, part)
        }>
    }""".replace("=> (float[m] y, float total) {", "=> (float[m] y, float total) <float zero = {0.0}> {"),
    lambda rng: [{"x": normal(rng, n), "trip": number(t)} for n, t in ((6, 3), (2, 2), (3, 0), (2, 5))],
    reference=False,
)

DOUBLING_STATE = Case(
    "doubling_state",
    """main (float[n, 2] x, int64 trip) => (float[m, 2] y, int64[t] sizes, float[2] sums) {
      y, sizes = Loop (trip, "", x) <body = step (int64 i, bool go, float[a, 2] h)
          => (bool on, float[b, 2] g, int64 size) {
          on = Identity(go)
          e = Cos(h)
          g = Concat <axis = 0> (e, h)
          zero = Constant <value_int = 0> ()
          shape = Shape(g)
          size = Gather(shape, zero)
        }>
      axis = Constant <value_ints = [0]> ()
      sums = ReduceSum <keepdims = 0> (y, axis)
    }""",
    lambda rng: [{"x": normal(rng, n, 2), "trip": number(t)} for n, t in ((1, 6), (3, 1), (2, 0))],
    reference=False,
)

DECODING = Case(
    "decoding",
    """main (int64[b] token, int64 most, float[v, d] table) => (int64[t, b] tokens, float[b, l, d] cache)
      <float[1] scale = {0.5}> {
      yes = Constant <value = bool {1}> ()
      start = Constant <value = int64[3] {0, 0, 0}> ()
      shape_b = Shape(token)
      shape_t = Shape(table)
      one = Constant <value_ints = [1]> ()
      none = Constant <value_ints = [0]> ()
      depth = Gather(shape_t, one)
      empty_shape = Concat <axis = 0> (shape_b, none, depth)
      empty = ConstantOfShape(empty_shape)
      last, cache, tokens = Loop (most, yes, token, empty)
          <body = step (int64 i, bool go, int64[b] t0, float[b, p, d] past)
          => (bool more, int64[b] t1, float[b, q, d] present, int64[b] out) {
          e = Gather(table, t0)
          e1 = Unsqueeze(e, one)
          present = Concat <axis = 1> (past, e1)
          pt = Transpose <perm = [0, 2, 1]> (present)
          scores0 = MatMul(e1, pt)
          scores = Mul(scores0, scale)
          p0 = Softmax <axis = -1> (scores)
          mixed = MatMul(p0, present)
          tt = Transpose <perm = [1, 0]> (table)
          logits = MatMul(mixed, tt)
          flat = Squeeze(logits, one)
          t1 = ArgMax <axis = -1, keepdims = 0> (flat)
          out = Identity(t1)
          three = Constant <value_int = 3> ()
          stop = Equal(t1, three)
          stop_f = Cast <to = 6> (stop)
          all_stop = ReduceMin <keepdims = 0> (stop_f)
          stopped = Cast <to = 9> (all_stop)
          more = Not(stopped)
        }>
    }""",
    lambda rng: [
        {"token": rng.integers(0, 9, b), "most": number(t), "table": normal(rng, 9, 8)}
        for b, t in ((1, 6), (3, 4), (2, 0), (2, 12))
    ],
    reference=False,
)

TYPES = Case(
    "types",
    """main (int32[n] a, float16[n] b, double[n] c, bool[n] d, uint8[n] e, int64 trip)
        => (int32[n] u, float16[n] v, double[n] w, bool[n] x, uint8[n] y, bool[t, n] xs, float16[t, n] vs) {
      u, v, w, x, y, xs, vs = Loop (trip, "", a, b, c, d, e)
          <body = step (int64 i, bool go, int32[n] p, float16[n] q, double[n] r, bool[n] s, uint8[n] t0)
          => (bool on, int32[n] p1, float16[n] q1, double[n] r1, bool[n] s1, uint8[n] t1, bool[n] s,
              float16[n] q1) {
          on = Identity(go)
          p1 = Add(p, p)
          q1 = Add(q, b)
          r1 = Mul(r, r)
          s1 = Not(s)
          t1 = Add(t0, e)
        }>
    }""",
    lambda rng: [
        {
            "a": rng.integers(-9, 9, n).astype(np.int32),
            "b": normal(rng, n).astype(np.float16),
            "c": rng.random(n),
            "d": rng.random(n) < 0.5,
            "e": rng.integers(0, 256, n).astype(np.uint8),
            "trip": number(t),
        }
        for n, t in ((5, 3), (1, 1), (33, 2))
    ],
    reference=False,
)

VECTOR_CONDITIONS = Case(
    "vector_conditions",
    """main (float[n] x, int64[1] trip, bool[1] go0, bool[1] c) => (float[n] y, float[n] z) {
      y = Loop (trip, go0, x) <body = step (int64 i, bool[1] go, float[n] h) => (bool[1] on, float[n] g) {
          on = Identity(go)
          g = Add(h, h)
        }>
      z = If (c) <then_branch = yes () => (float[n] a) { a = Neg(y) },
        else_branch = no () => (float[n] b) { b = Identity(y) }>
    }""",
    lambda rng: [
        {"x": normal(rng, 3), "trip": np.array([t]), "go0": np.array([g]), "c": np.array([c])}
        for t, g, c in ((2, True, True), (3, False, False))
    ],
    reference=False,
)

LOOPS_IN_A_ROW = Case(
    "loops_in_a_row",
    """main (float[n] x, int64 k) => (float[n] y, float[a, n] p, float[b, n] q, float[m, n] all) {
      u, p = Loop (k, "", x) <body = one (int64 i, bool go, float[n] h) => (bool on, float[n] g, float[n] e) {
          on = Identity(go)
          g = Tanh(h)
          e = Sub(h, g)
        }>
      y, q = Loop (k, "", u) <body = two (int64 i, bool go, float[n] h) => (bool on, float[n] g, float[n] e) {
          on = Identity(go)
          row = Gather(p, i)
          g = Sub(h, row)
          e = Exp(g)
        }>
      all = Concat <axis = 0> (p, q)
    }""",
    lambda rng: [{"x": normal(rng, n), "k": number(k)} for n, k in ((3, 4), (20, 1))],
    reference=False,
)

SCAN_OVER_NOTHING = Case(
    "scan_over_nothing",
    """main (float[n] h, float[t, n] x) => (float[n] y, float[t, n] all) {
      y, all = Scan <num_scan_inputs = 1, body = step (float[n] s, float[n] e) => (float[n] r, float[n] q) {
          r = Add(s, e)
          q = Mul(r, e)
        }> (h, x)
    }""",
    lambda rng: [{"h": normal(rng, 3), "x": normal(rng, 0, 3)}],
    reference=False,
    onnxruntime=False,
)

SCAN_WITHOUT_STATE = Case(
    "scan_without_state",
    """main (float[t, n] x, float[n, t] z) => (float[t, n] y, float[n, t] w) {
      y, w = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1], scan_output_axes = [0, 1],
          body = step (float[n] e, float[n] f) => (float[n] p, float[n] q) {
          p = Mul(e, f)
          q = Sub(f, e)
        }> (x, z)
    }""",
    lambda rng: [{"x": normal(rng, t, n), "z": normal(rng, n, t)} for t, n in ((3, 2), (1, 9))],
    reference=False,
)

SCAN_LSTM = Case(
    "scan_lstm",
    """main (float[b, 8] h, float[b, 8] c, float[t, b, 4] x, float[4, 32] w, float[8, 32] u)
        => (float[b, 8] y, float[b, 8] z, float[t, b, 8] all) {
      y, z, all = Scan <num_scan_inputs = 1, body = step (float[b, 8] s, float[b, 8] m, float[b, 4] e)
            => (float[b, 8] r, float[b, 8] k, float[b, 8] q) {
          i = MatMul(e, w)
          j = MatMul(s, u)
          gates = Add(i, j)
          g0, g1, g2, g3 = Split <axis = 1, num_outputs = 4> (gates)
          a0 = Sigmoid(g0)
          a1 = Sigmoid(g1)
          a2 = Tanh(g2)
          a3 = Sigmoid(g3)
          kept = Mul(a1, m)
          fresh = Mul(a0, a2)
          k = Add(kept, fresh)
          kt = Tanh(k)
          r = Mul(a3, kt)
          q = Identity(r)
        }> (h, c, x)
    }""",
    lambda rng: [
        {
            "h": normal(rng, b, 8),
            "c": normal(rng, b, 8),
            "x": normal(rng, t, b, 4),
            "w": normal(rng, 4, 32),
            "u": normal(rng, 8, 32),
        }
        for b, t in ((1, 3), (5, 6))
    ],
)

SCAN_LENGTHS = Case(
    "scan_lengths",
    """main (int64[b] lengths, float[b, n] h, float[b, t, n] x, float[b, t, n] z)
        => (float[b, n] y, float[b, t, n] all, float[b, t] sums) {
      y, all, sums = Scan <num_scan_inputs = 2, directions = [0, 1],
          body = step (float[n] s, float[n] e, float[n] f) => (float[n] r, float[n] q, float total) {
          u = Mul(s, e)
          r = Add(u, f)
          q = Sub(r, e)
          total = ReduceSum <axes = [0], keepdims = 0> (q)
        }> (lengths, h, x, z)
    }""",
    lambda rng: [
        {
            "lengths": np.array(lengths),
            "h": normal(rng, len(lengths), n),
            "x": normal(rng, len(lengths), t, n),
            "z": normal(rng, len(lengths), t, n),
        }
        for lengths, t, n in (((3, 1, 4), 4, 2), ((2,), 5, 3), ((6, 6), 6, 17))
    ],
    opset=8,
    reference=False,
)

SCAN_BATCH = Case(
    "scan_batch",
    """main (float[b, n] h, float[b, t, n] x) => (float[b, n] y, float[b, t, n] all) {
      y, all = Scan <num_scan_inputs = 1, body = step (float[n] s, float[n] e) => (float[n] r, float[n] q) {
          r = Add(s, e)
          q = Mul(r, e)
        }> ("", h, x)
    }""",
    lambda rng: [
        {"h": normal(rng, b, n), "x": normal(rng, b, t, n)} for b, t, n in ((1, 4, 2), (3, 1, 5), (2, 6, 3))
    ],
    opset=8,
    reference=False,
)

OLD_LOOP = Case(
    "old_loop",
    """main (float[n] x, int64 trip) => (float[n] y, float[t, n] all) {
      yes = Constant <value = bool {1}> ()
      y, all = Loop (trip, yes, x) <body = step (int64 i, bool go, float[n] h)
          => (bool more, float[n] g, float[n] row) {
          one = Constant <value = float {1.0}> ()
          g = Add(h, one)
          row = Mul(g, h)
          s = ReduceSum <keepdims = 0, axes = [0]> (g)
          limit = Constant <value = float {9.0}> ()
          more = Less(s, limit)
        }>
    }""",
    lambda rng: [{"x": np.abs(normal(rng, n)), "trip": number(t)} for n, t in ((2, 3), (3, 40), (1, 2))],
    opset=7,
    reference=False,
)

SELECTION_IN_LOOP = Case(
    "selection_in_loop",
    """main (float[n] x, int64 trip) => (float[m] y, int64 count) {
      y, count = Loop (trip, "", x, nothing) <body = step (int64 i, bool go, float[a] h, int64 c)
          => (bool on, float[b] g, int64 d) {
          on = Identity(go)
          low = Constant <value_float = -0.5> ()
          keep = Greater(h, low)
          kept = Compress <axis = 0> (h, keep)
          third = Constant <value_float = 0.4> ()
          g = Sub(kept, third)
          size = Size(g)
          d = Add(c, size)
        }>
    }""".replace("int64 count) {", "int64 count) <int64 nothing = {0}> {", 1),
    lambda rng: [{"x": normal(rng, n), "trip": number(t)} for n, t in ((40, 3), (7, 1), (9, 9), (5, 0))],
    reference=False,
)

LOOPS = [
    SCAN_IN_LOOP,
    LOOP_IN_IF,
    DEEP_CAPTURE,
    ROTATED_STATES,
    SHARED_NEXT_STATE,
    PLAIN_BODY_OUTPUTS,
    UNCHANGED_STATE,
    OUTER_SCOPE_WEIGHTS,
    COUNTDOWN_SHAPES,
    DOUBLING_STATE,
    DECODING,
    TYPES,
    VECTOR_CONDITIONS,
    LOOPS_IN_A_ROW,
    SCAN_OVER_NOTHING,
    SCAN_WITHOUT_STATE,
    SCAN_LSTM,
    SCAN_LENGTHS,
    SCAN_BATCH,
    OLD_LOOP,
    SELECTION_IN_LOOP,
]
