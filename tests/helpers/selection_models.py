"""Selections at their edges: nothing or everything chosen, equal and unordered numbers, other dtypes."""

from __future__ import annotations

import numpy as np

from tests.helpers.control_models import Array, Case, normal

NAN, INF = np.nan, np.inf


def f32(*values: float) -> Array:
    """A float32 vector."""
    return np.array(values, np.float32)


NON_ZERO_KINDS = Case(
    "non_zero_kinds",
    """main (float[n] x, bool[n] b, int8[n] i, float16[n] h, double[n, 1, m] d)
        => (int64[1, k] p, int64[1, l] q, int64[1, r] u, int64[1, s] v, int64[3, t] w) {
      p = NonZero(x)
      q = NonZero(b)
      u = NonZero(i)
      v = NonZero(h)
      w = NonZero(d)
    }""",
    lambda rng: [
        {
            "x": f32(0.0, -0.0, NAN, INF, 1e-45, 0.0),
            "b": rng.random(6) < 0.5,
            "i": rng.integers(-1, 2, 6).astype(np.int8),
            "h": np.array([0, -0.0, 6e-8, NAN, 1, 0], np.float16),
            "d": np.where(rng.random((6, 1, m)) < 0.5, 0.0, 1e-300),
        }
        for m in (1, 5)
    ],
    onnxruntime=False,
)

COMPRESS_EDGES = Case(
    "compress_edges",
    """main (float[n, m, 3] x, bool[n] rows, bool[m] columns, int16[n] y)
        => (float[a, m, 3] u, float[n, b, 3] v, int16[c] w, float[a] s) {
      u = Compress <axis = 0> (x, rows)
      v = Compress <axis = 1> (x, columns)
      w = Compress(y, rows)
      axes = Constant <value_ints = [1, 2]> ()
      s = ReduceMax <keepdims = 0> (u, axes)
    }""",
    lambda rng: [
        {
            "x": normal(rng, n, m, 3),
            "rows": rng.random(n) < p,
            "columns": rng.random(m) < p,
            "y": rng.integers(-99, 99, n).astype(np.int16),
        }
        for n, m in ((5, 4), (1, 17))
        for p in (-1, 0.5, 2)
    ],
)

UNIQUE_KINDS = Case(
    "unique_kinds",
    """main (int64[n] a, int8[n] b, double[n] c, float[n] d)
        => (int64[i] p, int8[j] q, int64[j] qf, double[k] r, int64[n] ri, float[l] s, int64[l] sc) {
      p = Unique(a)
      q, qf = Unique(b)
      r, rf, ri = Unique <sorted = 0> (c)
      s, sf, si, sc = Unique(d)
    }""",
    lambda rng: [
        {
            "a": rng.integers(-(2**62), 2**62, 3)[rng.integers(0, 3, n)],
            "b": rng.integers(-3, 3, n).astype(np.int8),
            "c": rng.integers(0, 3, n) / 3,
            "d": np.where(rng.random(n) < 0.5, -INF, 1.5).astype(np.float32),
        }
        for n in (1, 2, 20)
    ],
    reference=False,
)

UNIQUE_OF_NOTHING = Case(
    "unique_of_nothing",
    """main (float[n] x) => (float[k] y, int64[k] first, int64[n] inverse, int64[k] counts) {
      y, first, inverse, counts = Unique(x)
    }""",
    lambda rng: [{"x": normal(rng, 0)}],
    reference=False,
)

NMS_TIES = Case(
    "nms_ties",
    """main (float[1, n, 4] boxes, float[1, c, n] scores, int64[1] limit, float[1] overlap, float[1] least)
        => (int64[k, 3] y) {
      y = NonMaxSuppression(boxes, scores, limit, overlap, least)
    }""",
    lambda rng: [
        {
            "boxes": boxes[None],
            "scores": np.broadcast_to(f32(*scores), (1, 2, len(scores))).copy(),
            "limit": np.array([limit]),
            "overlap": f32(overlap),
            "least": f32(0.5),
        }
        for boxes in (
            np.tile(f32(0, 0, 1, 1), (4, 1)),
            np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [1, 3, 0, 2]], np.float32),
            np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [5, 5, 5, 5]], np.float32),
        )
        for scores in ((0.9, 0.9, 0.9, 0.9), (0.5, 0.75, 0.75, 0.6), (0.1, 0.2, 0.3, 0.4))
        for limit, overlap in ((4, 0.5), (1, 0.0), (4, 1.0))
    ],
)

NMS_UNORDERED_SCORES = Case(
    "nms_unordered_scores",
    """main (float[1, n, 4] boxes, float[1, 1, n] scores) => (int64[k, 3] y) {
      limit = Constant <value_ints = [10]> ()
      overlap = Constant <value_floats = [0.5]> ()
      least = Constant <value_floats = [0.25]> ()
      y = NonMaxSuppression(boxes, scores, limit, overlap, least)
    }""",
    lambda rng: [
        {
            "boxes": (np.arange(5, dtype=np.float32)[:, None] * 10 + f32(0, 0, 1, 1))[None],
            "scores": f32(*scores)[None, None],
        }
        for scores in ((NAN, 0.5, 0.75, NAN, 0.25), (NAN,) * 5, (INF, -INF, NAN, 1.0, 0.3))
    ],
)

TOP_K_TIES = Case(
    "top_k_ties",
    """main (float[n, m] x, int32[m] z, int64[1] k)
        => (float[n, j] v, int64[n, j] i, float[n, j] lv, int64[n, j] li, int32[j] zv, int64[j] zi) {
      v, i = TopK(x, k)
      lv, li = TopK <largest = 0> (x, k)
      zv, zi = TopK <axis = 0> (z, k)
    }""",
    lambda rng: [
        {
            "x": rng.integers(0, 3, (n, m)).astype(np.float32),
            "z": rng.integers(-1, 2, m).astype(np.int32),
            "k": np.array([k]),
        }
        for n, m, k in ((2, 7, 3), (1, 1, 1), (3, 40, 40), (2, 33, 17), (2, 5, 0))
    ],
)

TOP_K_AXES = Case(
    "top_k_axes",
    """main (float[n, m, 5] x, int64[1] k) => (float[j, m, 5] v, int64[n, j, 5] i, float[n, m, j] w) {
      v, vi = TopK <axis = 0> (x, k)
      iv, i = TopK <axis = -2, largest = 0> (x, k)
      w, wi = TopK <axis = 2> (x, k)
    }""",
    lambda rng: [{"x": normal(rng, n, m, 5), "k": np.array([k])} for n, m, k in ((3, 4, 2), (20, 7, 5))],
)

TOP_K_OF_COUNT = Case(
    "top_k_of_count",
    """main (float[b, n] x, float[n] y) => (float[b, j] v, float[b, j] w) {
      p = NonZero(y)
      shape = Shape(p)
      one = Constant <value_ints = [1]> ()
      k = Gather(shape, one)
      v, i = TopK(x, k)
      w = Tanh(v)
    }""",
    lambda rng: [
        {"x": normal(rng, b, n), "y": np.where(rng.random(n) < p, 1, 0).astype(np.float32)}
        for b, n, p in ((2, 6, 0.5), (1, 3, -1), (3, 50, 2))
    ],
)

CHAINED = Case(
    "chained_selections",
    """main (float[n, 3] x, float least)
        => (float[m, 3] kept, int64[k] labels, int64[k] sizes, float[j] best) {
      zero = Constant <value_int = 0> ()
      column = Gather <axis = 1> (x, zero)
      keep = Greater(column, least)
      kept = Compress <axis = 0> (x, keep)
      first = Gather <axis = 1> (kept, zero)
      rounded = Round(first)
      small = Cast <to = 7> (rounded)
      labels, at, inverse, sizes = Unique(small)
      shape = Shape(labels)
      best, where = TopK(first, shape)
    }""",
    lambda rng: [
        {"x": normal(rng, n, 3) * 3, "least": np.array(least, np.float32)}
        for n, least in ((20, 0.0), (5, -99.0), (64, 2.0))
    ],
    reference=False,
)

CHOSEN_IN_BRANCH = Case(
    "chosen_in_branch",
    """main (float[n] x, bool c) => (float[m] y, int64 count) {
      y = If (c) <then_branch = yes () => (float[a] p) {
          zero = Constant <value_float = 0.0> ()
          keep = Greater(x, zero)
          p = Compress(x, keep)
        }, else_branch = no () => (float[b] q) {
          two = Constant <value_ints = [2]> ()
          q, at = TopK(x, two)
        }>
      count = Size(y)
    }""",
    lambda rng: [{"x": x, "c": np.array(c)} for c in (True, False) for x in (normal(rng, 9), f32(-1, -2))],
)

SELECTIONS = [
    NON_ZERO_KINDS,
    COMPRESS_EDGES,
    UNIQUE_KINDS,
    UNIQUE_OF_NOTHING,
    NMS_TIES,
    NMS_UNORDERED_SCORES,
    TOP_K_TIES,
    TOP_K_AXES,
    TOP_K_OF_COUNT,
    CHAINED,
    CHOSEN_IN_BRANCH,
]
