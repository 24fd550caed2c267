"""Models that read or write where their data says, as ONNX text, with good inputs and the names of the
operands that choose the places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import parser

from tests.helpers.recipes import Array

_RNG = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Indexed:
    """A model; `places` are its inputs that choose elements, sizes or positions.

    `accesses` are the loads and stores whose index holds data, as "kind axes" by the axes that do, in the
    order of the program; `symbols` counts the numbers that are read from data and stand in sizes and indices.
    """

    name: str
    text: str
    feeds: Mapping[str, Array]
    places: tuple[str, ...]
    accesses: tuple[str, ...] = ()
    symbols: int = 0
    opset: int = 18
    domain: str = ""

    def model(self) -> onnx.ModelProto:
        """The model; its outputs declare no shapes."""
        other = f', "{self.domain}": 1' if self.domain else ""
        model = parser.parse_model(
            f'<ir_version: 11, opset_import: ["": {self.opset}{other}]>\n{self.text}'
        )
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        return model


def _f(*shape: int) -> Array:
    return _RNG.standard_normal(shape).astype(np.float32)


def _i(*values: object) -> Array:
    return np.array(values, np.int64)


def _i32(*values: object) -> Array:
    return np.array(values, np.int32)


INDEXED = [
    Indexed(
        "gather_rows",
        "m (float[r, c] x, int64[n] i) => (float[n, c] y) { y = Gather(x, i) }",
        {"x": _f(5, 21), "i": _i(0, 4, -1, -5)},
        ("i",),
        ("load 0",),
    ),
    Indexed(
        "gather_columns",
        "m (float[r, c] x, int64[n, k] i) => (float[r, n, k] y) { y = Gather <axis = 1> (x, i) }",
        {"x": _f(3, 7), "i": _i([0, 6], [-7, 2])},
        ("i",),
        ("load 1",),
    ),
    Indexed(
        "embedding",
        """m (float[7, 4] table, int32[b, s] ids, float[b, s, 4] z) => (float[b, s, 4] y) {
          e = Gather(table, ids)  f = Exp(e)  y = Add(f, z)
        }""",
        {"table": _f(7, 4), "ids": _i32([1, 6, -7]), "z": _f(1, 3, 4)},
        ("ids",),
        ("load 0",),
    ),
    Indexed(
        "gather_elements",
        "m (float[r, c] x, int64[n, c] i) => (float[n, c] y) { y = GatherElements <axis = 0> (x, i) }",
        {"x": _f(4, 19), "i": _RNG.integers(-4, 4, (2, 19))},
        ("i",),
        ("load 0",),
    ),
    Indexed(
        "gather_nd",
        "m (float[r, c, d] x, int64[n, 2] i) => (float[n, d] y) { y = GatherND(x, i) }",
        {"x": _f(3, 4, 5), "i": _i([0, -1], [2, 3], [-3, 0])},
        ("i",),
        ("load 0 1",),
    ),
    Indexed(
        "gather_nd_batched",
        """m (float[b, c, d] x, int64[b, n, 1] i) => (float[b, n, d] y) {
          y = GatherND <batch_dims = 1> (x, i)
        }""",
        {"x": _f(2, 4, 5), "i": _i([[0], [-1]], [[3], [-4]])},
        ("i",),
        ("load 1",),
    ),
    Indexed(
        "scatter_elements",
        """m (float[r, c] x, int64[n, c] i, float[n, c] u) => (float[r, c] y) {
          y = ScatterElements <axis = 0> (x, i, u)
        }""",
        {"x": _f(5, 3), "i": _i([0, 1, -1], [4, -5, 2]), "u": _f(2, 3)},
        ("i",),
        ("store 0",),
    ),
    Indexed(
        "scatter_elements_added",
        """m (float[r, c] x, int64[r, n] i, float[r, n] u) => (float[r, c] y) {
          y = ScatterElements <axis = 1, reduction = "add"> (x, i, u)
        }""",
        {"x": _f(2, 18), "i": _RNG.integers(-18, 18, (2, 40)), "u": _f(2, 40)},
        ("i",),
        ("store 1",),
    ),
    Indexed(
        "scatter_nd",
        "m (float[r, c] x, int64[n, 1] i, float[n, c] u) => (float[r, c] y) { y = ScatterND(x, i, u) }",
        {"x": _f(5, 17), "i": _i([4], [-5]), "u": _f(2, 17)},
        ("i",),
        ("store 0",),
    ),
    Indexed(
        "scatter_nd_max",
        """m (float[r, c] x, int64[n, 2] i, float[n] u) => (float[r, c] y) {
          y = ScatterND <reduction = "max"> (x, i, u)
        }""",
        {"x": _f(5, 3), "i": _i([4, -1], [-5, 0], [4, 2]), "u": _f(3)},
        ("i",),
        ("store 0 1",),
    ),
    Indexed(
        "one_hot",
        """m (int64[n] i, float[2] v) => (float[n, 9] y) {
          d = Constant <value_int = 9> () y = OneHot(i, d, v)
        }""",
        {"i": _i(0, 8, -9, 20), "v": _f(2)},
        ("i",),
    ),
    Indexed(
        "one_hot_of_any_depth",
        "m (int64[n] i, int64 d, float[2] v) => (float[n, e] y) { y = OneHot(i, d, v) }",
        {"i": _i(0, 3), "d": np.array(5), "v": _f(2)},
        ("i", "d"),
        symbols=1,
    ),
    Indexed(
        "reverse_sequence",
        """m (float[t, b, c] x, int64[b] n) => (float[t, b, c] y) {
          y = ReverseSequence <time_axis = 0, batch_axis = 1> (x, n)
        }""",
        {"x": _f(6, 3, 5), "n": _i(6, 1, 4)},
        ("n",),
        ("load 0",),
    ),
    Indexed(
        "top_k",
        "m (float[n, m] x, int64[1] k) => (float[n, j] v, int64[n, j] i) { v, i = TopK(x, k) }",
        {"x": _f(3, 20), "k": _i(4)},
        ("k",),
        symbols=1,
    ),
    Indexed(
        "slice",
        """m (float[n, m] x, int64[2] s, int64[2] e) => (float[a, b] y) {
          a = Constant <value_ints = [0, 1]> ()  y = Slice(x, s, e, a)
        }""",
        {"x": _f(9, 20), "s": _i(1, -18), "e": _i(8, 300)},
        ("s", "e"),
        symbols=4,
    ),
    Indexed(
        "resize",
        """m (float[1, c, h, w] x, int64[4] size) => (float[1, c, a, b] y) {
          y = Resize <mode = "linear"> (x, , , size)
        }""",
        {"x": _f(1, 3, 5, 4), "size": _i(1, 3, 7, 9)},
        ("size",),
        ("load 0", "load 0", "load 1", "load 1", "load 2", "load 2", "load 3", "load 3"),
        symbols=4,
    ),
    Indexed(
        "resize_nearest",
        """m (float[1, c, h, w] x, int64[4] size) => (float[1, c, a, b] y) {
          y = Resize <mode = "nearest"> (x, , , size)
        }""",
        {"x": _f(1, 3, 5, 4), "size": _i(1, 3, 2, 11)},
        ("size",),
        ("load 0 1 2 3",),
        symbols=4,
    ),
    Indexed(
        "pad",
        "m (float[n, m] x, int64[4] p) => (float[a, b] y) { y = Pad(x, p) }",
        {"x": _f(3, 4), "p": _i(1, 0, -1, 2)},
        ("p",),
        symbols=4,
    ),
    Indexed(
        "expand_and_tile",
        """m (float[n] x, int64[2] s, int64[2] r) => (float[a, b] y) {
          e = Expand(x, s)  y = Tile(e, r)
        }""",
        {"x": _f(3), "s": _i(2, 3), "r": _i(2, 1)},
        ("s", "r"),
        symbols=4,
    ),
    Indexed(
        "split_sizes",
        "m (float[n, m] x, int64[2] s) => (float[n, a] y, float[n, b] z) { y, z = Split <axis = 1> (x, s) }",
        {"x": _f(3, 9), "s": _i(4, 5)},
        ("s",),
        symbols=2,
    ),
    Indexed(
        "trilu",
        "m (float[n, m] x, int64 k) => (float[n, m] y) { y = Trilu(x, k) }",
        {"x": _f(5, 20), "k": np.array(1)},
        ("k",),
        symbols=1,
    ),
    Indexed(
        "range_of_a_table",
        """m (float[n, m] x, int64 a, int64 b) => (float[k, m] y) {
          one = Constant <value_int = 1> ()  r = Range(a, b, one)  y = Gather(x, r)
        }""",
        {"x": _f(5, 3), "a": np.array(1), "b": np.array(4)},
        ("a", "b"),
        ("load 0",),
        symbols=2,
    ),
    Indexed(
        "regions",
        """m (float[b, c, h, w] x, float[n, 4] rois, int64[n] image) => (float[n, c, 3, 3] y) {
          y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2> (x, rois, image)
        }""",
        {"x": _f(2, 5, 8, 11), "rois": _f(3, 4) * 9, "image": _i(0, 1, 1)},
        ("rois", "image"),
    ),
    Indexed(
        "suppression",
        """m (float[b, n, 4] boxes, float[b, c, n] scores, int64[1] limit) => (int64[k, 3] y, float[k] s) {
          o = Constant <value_floats = [0.3]> ()
          y = NonMaxSuppression(boxes, scores, limit, o)  s = GatherND(scores, y)
        }""",
        {"boxes": np.abs(_f(2, 9, 4)), "scores": _f(2, 3, 9), "limit": _i(4)},
        ("limit", "boxes"),
        ("load 0", "load 0 1 2"),
        symbols=2,
    ),
    Indexed(
        "grid_sample",
        """m (float[n, c, h, w] x, float[n, a, b, 2] grid) => (float[n, c, a, b] y) {
          y = GridSample <mode = "linear", padding_mode = "zeros"> (x, grid)
        }""",
        {"x": _f(2, 3, 5, 7), "grid": _f(2, 4, 6, 2)},
        ("grid",),
        ("load 2 3",) * 4,
        opset=20,
    ),
    Indexed(
        "grid_sample_reflected",
        """m (float[n, c, h, w] x, float[n, a, b, 2] grid) => (float[n, c, a, b] y) {
          y = GridSample <mode = "cubic", padding_mode = "reflection"> (x, grid)
        }""",
        {"x": _f(1, 2, 5, 7), "grid": _f(1, 4, 6, 2) * 2},
        ("grid",),
        ("load 2 3",) * 16,
        opset=20,
    ),
    Indexed(
        "rotary_by_position",
        """m (float[b, 2, s, 8] x, float[p, 4] c, float[p, 4] n, int64[b, s] i) => (float[b, 2, s, 8] y) {
          y = RotaryEmbedding(x, c, n, i)
        }""",
        {"x": _f(2, 2, 3, 8), "c": _f(9, 4), "n": _f(9, 4), "i": _i([0, 1, 8], [3, 4, 5])},
        ("i",),
        ("load 0", "load 0"),
        opset=23,
    ),
    Indexed(
        "attention_of_valid_keys",
        """m (float[b, 2, s, 8] q, float[b, 2, t, 8] k, float[b, 2, t, 8] v, int64[b] n)
            => (float[b, 2, s, 8] y) { y = Attention(q, k, v, , , , n) }""",
        {"q": _f(2, 2, 3, 8), "k": _f(2, 2, 5, 8), "v": _f(2, 2, 5, 8), "n": _i(5, 2)},
        ("n",),
        opset=24,
    ),
    Indexed(
        "cache_written_at_a_place",
        """m (float[b, 2, t, 8] cache, float[b, 2, s, 8] u, int64[b] at) => (float[b, 2, t, 8] y) {
          y = TensorScatter <axis = 2> (cache, u, at)
        }""",
        {"cache": _f(2, 2, 6, 8), "u": _f(2, 2, 3, 8), "at": _i(0, 3)},
        ("at",),
        ("store 2",),
        opset=24,
    ),
    Indexed(
        "unpooled",
        """m (float[n, c, h, w] x, int64[n, c, h, w] i) => (float[n, c, a, b] y) {
          y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, i)
        }""",
        {"x": _f(1, 1, 2, 2), "i": _i([[[5, 7], [13, 15]]])},
        ("i",),
        ("store 0",),
    ),
    Indexed(
        "compressed",
        "m (float[n, m] x, bool[n] keep) => (float[k, m] y) { y = Compress <axis = 0> (x, keep) }",
        {"x": _f(5, 3), "keep": np.array([True, False, True, True, False])},
        (),
        ("load 0",),
        symbols=1,
    ),
    Indexed(
        "grouped_attention_with_a_cache",
        """m (float[b, s, 16] q, float[b, s, 8] k, float[b, s, 8] v, float[b, 1, p, 8] pk,
            float[b, 1, p, 8] pv, int32[b] ends, int32[1] total)
            => (float[b, s, 16] y, float[b, 1, t, 8] nk, float[b, 1, t, 8] nv) {
          y, nk, nv = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1>
              (q, k, v, pk, pv, ends, total)
        }""",
        {
            "q": _f(1, 1, 16),
            "k": _f(1, 1, 8),
            "v": _f(1, 1, 8),
            "pk": _f(1, 1, 6, 8),
            "pv": _f(1, 1, 6, 8),
            "ends": _i32(3),
            "total": _i32(4),
        },
        ("ends", "total"),
        ("load 2", "load 2"),
        symbols=1,
        domain="com.microsoft",
    ),
    Indexed(
        "computed_slice",
        """m (float[n, m] x, int64[2, k] v) => (float[a, b] y) {
          e = Constant <value_ints = [7, 9]> ()  one = Constant <value_ints = [1]> ()
          s = ReduceMax <keepdims = 0> (v, one)  y0 = Slice(x, s, e)  y = Exp(y0)
        }""",
        {"x": _f(9, 20), "v": _i([1, -3], [2, 1])},
        ("v",),
        symbols=2,
    ),
    Indexed(
        "computed_top_k",
        """m (float[n, m] x, int64[1, l] v) => (float[n, j] y, int64[n, j] i) {
          one = Constant <value_ints = [1]> ()  k = ReduceMax <keepdims = 0> (v, one)  y, i = TopK(x, k)
        }""",
        {"x": _f(3, 20), "v": _i([4, 2])},
        ("v",),
        symbols=1,
    ),
    Indexed(
        "computed_range_of_a_table",
        """m (float[n, m] x, int64[l] v) => (float[k, m] y) {
          zero = Constant <value_int = 0> ()  one = Constant <value_int = 1> ()
          b = ReduceMax <keepdims = 0> (v)  r = Range(zero, b, one)  y = Gather(x, r)
        }""",
        {"x": _f(5, 3), "v": _i(2, 4, -1)},
        ("v",),
        ("load 0",),
        symbols=1,
    ),
    Indexed(
        "computed_expand",
        """m (float[1, n] x, int64[2, k] v) => (float[a, b] y) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)  y = Expand(x, s)
        }""",
        {"x": _f(1, 3), "v": _i([2, 1], [3, 1])},
        ("v",),
        symbols=2,
    ),
    Indexed(
        "computed_pad",
        """m (float[m, n] x, int64[4, k] v) => (float[a, b] y) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)  y = Pad(x, s)
        }""",
        {"x": _f(2, 3), "v": _i([1, 0], [0, 0], [2, 0], [0, -1])},
        ("v",),
        symbols=4,
    ),
    Indexed(
        "computed_tile",
        """m (float[m, n] x, int64[2, k] v) => (float[a, b] y) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)  y = Tile(x, s)
        }""",
        {"x": _f(2, 3), "v": _i([2, 1], [1, 2])},
        ("v",),
        symbols=2,
    ),
    Indexed(
        "computed_split",
        """m (float[n, m] x, int64[2, k] v) => (float[n, a] y, float[n, b] z) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)
          y, z = Split <axis = 1> (x, s)
        }""",
        {"x": _f(3, 9), "v": _i([4, 1], [5, 2])},
        ("v",),
        symbols=2,
    ),
    Indexed(
        "computed_resize",
        """m (float[1, c, h, w] x, int64[2, k] v) => (float[1, c, a, b] y) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)
          y = Resize <mode = "linear", axes = [2, 3]> (x, , , s)
        }""",
        {"x": _f(1, 3, 5, 4), "v": _i([7, 1], [9, 2])},
        ("v",),
        ("load 2", "load 2", "load 3", "load 3"),
        symbols=2,
    ),
    Indexed(
        "computed_shape",
        """m (float[n, m] x, int64[2, k] v, int64[1, k] u) => (float[a, b] y, float[c] z) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)  y = Reshape(x, s)
          t = ReduceMax <keepdims = 0> (u, one)  z = ConstantOfShape <value = float[1] {3.0}> (t)
        }""",
        {"x": _f(4, 6), "v": _i([8, 1], [3, 2]), "u": _i([5, 1])},
        ("v", "u"),
        symbols=3,
    ),
]
