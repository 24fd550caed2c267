"""Small models whose results have sizes that only the run tells, as ONNX text, with inputs to try.

The ONNX reference cannot leave distinct elements unsorted, and takes no depth that is a vector.
"""

from __future__ import annotations

import numpy as np

from tests.helpers.control_models import Array, Case, normal, number


def sparse(rng: np.random.Generator, *shape: int) -> Array:
    """Small whole numbers as float32, about half of them 0."""
    return rng.integers(-1, 3, shape).clip(0).astype(np.float32)


NON_ZERO = Case(
    "non_zero",
    """main (float[n, m] x) => (int64[2, k] y) { y = NonZero(x) }""",
    lambda rng: [
        {"x": sparse(rng, *shape)} for shape in ((3, 4), (1, 1), (50, 33), (0, 4))
    ] + [{"x": np.zeros((4, 5), np.float32)}, {"x": np.ones((4, 5), np.float32)}],
)

NON_ZERO_GATHER_SCATTER = Case(
    "non_zero_gather_scatter",
    """main (float[n, 4] x, bool[n] keep) => (float[n, 4] y, float[k, 4] rows, int64 count) {
      p = NonZero(keep)
      t = Transpose(p)
      rows0 = GatherND(x, t)
      rows = Exp(rows0)
      zero = Sub(x, x)
      y = ScatterND(zero, t, rows)
      count = Size(rows)
    }""",
    lambda rng: [{"x": normal(rng, n, 4), "keep": rng.random(n) < p} for n in (5, 40) for p in (0.5, -1, 2)],
)

COMPRESS = Case(
    "compress",
    """main (float[n, m] x, bool[c] keep) => (float[k, m] rows, float[n, l] columns, float[j] flat) {
      rows = Compress <axis = 0> (x, keep)
      columns = Compress <axis = -1> (x, keep)
      flat = Compress(x, keep)
    }""",
    lambda rng: [{"x": normal(rng, 6, 7), "keep": rng.random(c) < 0.5} for c in (6, 4, 1, 0)],
)

UNIQUE = Case(
    "unique",
    """main (float[n, m] x) => (float[k] y, int64[k] first, int64[c] inverse, int64[k] counts, float[j] z,
        int64[j] zf, int64[c] zi, int64[j] zc) {
      y, first, inverse, counts = Unique(x)
      z, zf, zi, zc = Unique <sorted = 0> (x)
    }""",
    lambda rng: [{"x": rng.integers(-4, 5, shape).astype(np.float32)} for shape in ((3, 4), (1, 1), (40, 7))]
    + [{"x": np.array([[0.0, -1.0, 2.0, -1.0, 2.0, 0.5]], np.float32)}],
    reference=False,
)

UNIQUE_ROWS = Case(
    "unique_rows",
    """main (int64[n, m] x) => (int64[k, m] y, int64[k] first, int64[n] inverse, int64[k] counts,
        int64[n, j] z) {
      y, first, inverse, counts = Unique <axis = 0> (x)
      z = Unique <axis = -1, sorted = 0> (x)
    }""",
    lambda rng: [{"x": rng.integers(0, 2, shape)} for shape in ((30, 3), (1, 4), (7, 5))],
    reference=False,
)

NMS = Case(
    "nms",
    """main (float[b, n, 4] boxes, float[b, c, n] scores, int64[1] limit, float[1] overlap, float[1] least)
        => (int64[k, 3] y, float[k] best) {
      y = NonMaxSuppression(boxes, scores, limit, overlap, least)
      s = GatherND(scores, y)
      best = Sqrt(s)
    }""",
    lambda rng: [
        {
            "boxes": np.sort(rng.random((b, n, 2, 2)), axis=2).reshape(b, n, 4).astype(np.float32),
            "scores": rng.random((b, c, n)).astype(np.float32),
            "limit": np.array([limit]),
            "overlap": np.array([overlap], np.float32),
            "least": np.array([least], np.float32),
        }
        for b, c, n, limit, overlap, least in (
            (1, 1, 6, 3, 0.5, 0.0),
            (2, 3, 40, 10, 0.3, 0.4),
            (1, 2, 100, 1000, 0.2, 0.0),
            (1, 1, 5, 2, 0.5, 2.0),
            (1, 1, 5, 0, 0.5, 0.0),
        )
    ],
)

NMS_CENTERS = Case(
    "nms_centers",
    """main (float[1, n, 4] boxes, float[1, 2, n] scores) => (int64[k, 3] y) {
      limit = Constant <value_ints = [20]> ()
      overlap = Constant <value_floats = [0.4]> ()
      y = NonMaxSuppression <center_point_box = 1> (boxes, scores, limit, overlap)
    }""",
    lambda rng: [
        {"boxes": rng.random((1, n, 4)).astype(np.float32), "scores": normal(rng, 1, 2, n)} for n in (1, 30)
    ],
)

NMS_WITHOUT_LIMIT = Case(
    "nms_without_limit",
    """main (float[1, n, 4] boxes, float[1, 2, n] scores) => (int64[k, 3] y) {
      y = NonMaxSuppression(boxes, scores)
    }""",
    lambda rng: [{"boxes": rng.random((1, 4, 4)).astype(np.float32), "scores": normal(rng, 1, 2, 4)}],
    reference=False,
)

TOP_K = Case(
    "top_k",
    """main (float[n, m] x, int64[1] k) => (float[n, j] v, int64[n, j] i, float[n] s) {
      v, i = TopK(x, k)
      axis = Constant <value_ints = [1]> ()
      s = ReduceSum <keepdims = 0> (v, axis)
    }""",
    lambda rng: [{"x": normal(rng, 3, 9), "k": np.array([k])} for k in (1, 4, 9)],
)

COMPUTED_TOP_K = Case(
    "computed_top_k",
    """main (float[n] x, int64 limit) => (float[j] v, int64[j] i) {
      zero = Constant <value_float = 0.0> ()
      axis = Constant <value_ints = [0]> ()
      one = Constant <value_ints = [1]> ()
      above = Greater(x, zero)
      ones = Cast <to = 7> (above)
      total = ReduceSum(ones)
      bound = Min(total, limit)
      k = Reshape(bound, one)
      v, i = TopK(x, k)
      unused = Unsqueeze(bound, axis)
    }""",
    lambda rng: [{"x": normal(rng, 12), "limit": number(k)} for k in (3, 100, 0)],
)

RANGE = Case(
    "range",
    """main (int64 a, int64 b, float u, float v, float d) => (int64[n] x, float[m] y, float s) {
      one = Constant <value_int = 1> ()
      x = Range(a, b, one)
      y = Range(u, v, d)
      s = ReduceSum <keepdims = 0> (y)
    }""",
    lambda rng: [
        {"a": number(a), "b": number(b), **{k: np.array(x, np.float32) for k, x in zip("uvd", f)}}
        for a, b, f in (
            (0, 5, (0, 1, 0.25)),
            (3, -2, (1, 0, 0.5)),
            (-2, 3, (5, 1, -0.75)),
        )
    ],
)

SHAPES = Case(
    "shapes",
    """main (float[n] x, int64[2] shape, int64[2] reps)
        => (float[a, n] e, float[c, d] t, float[p, q] z, float[r] w) {
      i0 = Constant <value_ints = [0]> ()
      one = Constant <value_ints = [1]> ()
      minus = Constant <value_ints = [-1]> ()
      e0 = Gather(shape, i0)
      e1 = Concat <axis = 0> (e0, one)
      e = Expand(x, e1)
      t = Tile(e, reps)
      z = ConstantOfShape <value = float[1] {3.0}> (shape)
      w = Reshape(z, minus)
    }""",
    lambda rng: [
        {"x": normal(rng, n), "shape": np.array(shape), "reps": np.array(reps)}
        for n, shape, reps in ((3, (2, 4), (1, 2)), (1, (5, 1), (2, 3)), (2, (0, 3), (1, 1)))
    ],
)

COMPUTED_SHAPES = Case(
    "computed_shapes",
    """main (float[n] x, float[m] t) => (float[a, b] y, float[c] s, float[d] u, float[g, h] o) {
      zero = Constant <value_float = 0.0> ()
      i1 = Constant <value_int = 1> ()
      ax = Constant <value_ints = [0]> ()
      two = Constant <value_ints = [2]> ()
      minus = Constant <value_ints = [-1]> ()
      end = Constant <value_ints = [9223372036854775807]> ()
      i0 = Constant <value_int = 0> ()
      above = Greater(t, zero)
      ones = Cast <to = 7> (above)
      k = ReduceSum(ones)
      one = Constant <value_ints = [1]> ()
      kv = Reshape(k, one)
      shape = Concat <axis = 0> (kv, two)
      y0 = ConstantOfShape <value = float[1] {1.5}> (shape)
      y = Add(y0, zero)
      s = Slice(x, kv, end, ax)
      neg = Neg(kv)
      u = Slice(x, neg, end, ax)
      k0 = Squeeze(kv)
      indices = Range(i0, k0, i1)
      values = Constant <value_floats = [0.0, 1.0]> ()
      k1 = Add(kv, one)
      o = OneHot(indices, k1, values)
    }""",
    lambda rng: [{"x": normal(rng, n), "t": normal(rng, m)} for n, m in ((5, 4), (2, 9), (9, 2))],
    reference=False,
)

SIZED = [
    NON_ZERO,
    NON_ZERO_GATHER_SCATTER,
    COMPRESS,
    UNIQUE,
    UNIQUE_ROWS,
    NMS,
    NMS_CENTERS,
    NMS_WITHOUT_LIMIT,
    TOP_K,
    COMPUTED_TOP_K,
    RANGE,
    SHAPES,
    COMPUTED_SHAPES,
]
