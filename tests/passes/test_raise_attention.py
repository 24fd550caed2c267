# ruff: noqa: E501 - the text of operators is long
"""Attention from the chains of several exporters, and chains that are none."""
from __future__ import annotations

import numpy as np

from dlc.ir.evaluate import evaluate
from dlc.passes.raise_attention import RaiseAttention
from tests.helpers.passes import check_pass, check_unchanged, graph_of, random_feeds


def test_divided_scores_and_an_added_mask() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %mask: f32[2, 1, 1, t]
        %eight = constant f32[] [8.0]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %d = Binary(fn="div")(%a, %eight) : f32[2, 3, s, t]
        %z = Binary(fn="add")(%d, %mask) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %mask: f32[2, 1, 1, t]
        %attention = Attention(scale=0.125, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, %mask, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_scaled_operands_a_guard_and_the_mask_first() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %mask: f32[s, t]
        %half = constant f32[] [0.5]
        %zero = constant f32[] [0.0]

        %qs = Binary(fn="mul")(%q, %half) : f32[2, 3, s, 8]
        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %ks = Binary(fn="mul")(%kt, %half) : f32[2, 3, 8, t]
        %a = MatMul()(%qs, %ks) : f32[2, 3, s, t]
        %z = Binary(fn="add")(%mask, %a) : f32[2, 3, s, t]
        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %n = Unary(fn="is_nan")(%p) : bool[2, 3, s, t]
        %g = Where()(%n, %zero, %p) : f32[2, 3, s, t]
        %y = MatMul()(%g, %v) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %mask: f32[s, t]
        %attention = Attention(scale=0.25, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, %mask, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_hidden_by_minus_infinity() -> None:
    check_pass(RaiseAttention(), """
        input %q: f32[2, 3, 2, 8]
        input %k: f32[2, 3, 3, 8]
        input %v: f32[2, 3, 3, 8]
        %seen = constant bool[2, 3] [true, false, false, true, true, false]
        %hidden = constant f32[] [-inf]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, 3]
        %a = MatMul()(%q, %kt) : f32[2, 3, 2, 3]

        %z = Where()(%seen, %a, %hidden) : f32[2, 3, 2, 3]

        %p = Softmax(axis=3)(%z) : f32[2, 3, 2, 3]
        %y = MatMul()(%p, %v) : f32[2, 3, 2, 8]
        output y = %y
    """, """
        input %q: f32[2, 3, 2, 8]
        input %k: f32[2, 3, 3, 8]
        input %v: f32[2, 3, 3, 8]
        %seen = constant bool[2, 3] [true, false, false, true, true, false]
        %attention = Attention(scale=1.0, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, %seen, _, _, _) : f32[2, 3, 2, 8]
        output y = %attention
    """)


def test_hidden_by_the_lowest_number() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %unseen: bool[s, t]
        %hidden = constant f32[] [-3.4028235e+38]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %z = Where()(%unseen, %hidden, %a) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %unseen: bool[s, t]
        %const.1 = constant f32[] [-3.4028235e+38]
        %const = constant f32[] [0.0]
        %where = Where()(%unseen, %const.1, %const) : f32[s, t]
        %attention = Attention(scale=1.0, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, %where, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_capped_scores() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        %cap = constant f32[] [5.0]
        %quarter = constant f32[] [0.25]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %b = Binary(fn="mul")(%a, %quarter) : f32[2, 3, s, t]
        %c = Binary(fn="div")(%b, %cap) : f32[2, 3, s, t]
        %d = Unary(fn="tanh")(%c) : f32[2, 3, s, t]
        %z = Binary(fn="mul")(%d, %cap) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        %attention = Attention(scale=0.25, causal=false, softcap=5.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, _, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_two_masks_one_of_them_inside_the_scale() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %bias: f32[3, s, t]
        input %mask: f32[s, t]
        %half = constant f32[] [0.5]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %b = Binary(fn="add")(%a, %bias) : f32[2, 3, s, t]
        %c = Binary(fn="mul")(%b, %half) : f32[2, 3, s, t]
        %z = Binary(fn="add")(%c, %mask) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %bias: f32[3, s, t]
        input %mask: f32[s, t]
        %const = constant f32[] [0.5]
        %binary = Binary(fn="mul")(%bias, %const) : f32[3, s, t]
        %binary.1 = Binary(fn="add")(%mask, %binary) : f32[3, s, t]
        %attention = Attention(scale=0.5, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, %binary.1, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_batch_and_heads_in_one_axis() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 1)
        input %q: f32[6, s, 8]
        input %k: f32[6, s, 8]
        input %v: f32[6, s, 8]
        %kt = Transpose(perm=(0, 2, 1))(%k) : f32[6, 8, s]
        %a = MatMul()(%q, %kt) : f32[6, s, s]
        %p = Softmax(axis=2)(%a) : f32[6, s, s]
        %y = MatMul()(%p, %v) : f32[6, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 1)
        input %q: f32[6, s, 8]
        input %k: f32[6, s, 8]
        input %v: f32[6, s, 8]
        %reshape = Reshape(shape=(1, 6, s, 8))(%q) : f32[1, 6, s, 8]
        %reshape.1 = Reshape(shape=(1, 6, s, 8))(%k) : f32[1, 6, s, 8]
        %reshape.2 = Reshape(shape=(1, 6, s, 8))(%v) : f32[1, 6, s, 8]
        %attention = Attention(scale=1.0, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%reshape, %reshape.1, %reshape.2, _, _, _, _) : f32[1, 6, s, 8]
        %reshape.3 = Reshape(shape=(6, s, 8))(%attention) : f32[6, s, 8]
        output y = %reshape.3
    """)


def test_heads_out_of_a_projection() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%x, 1)
        input %x: f32[2, s, 24]
        %r = Reshape(shape=(2, s, 3, 8))(%x) : f32[2, s, 3, 8]
        %q = Transpose(perm=(0, 2, 1, 3))(%r) : f32[2, 3, s, 8]
        %kt = Transpose(perm=(0, 2, 3, 1))(%r) : f32[2, 3, 8, s]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, s]
        %p = Softmax(axis=3)(%a) : f32[2, 3, s, s]
        %y = MatMul()(%p, %q) : f32[2, 3, s, 8]
        output y = %y
    """, """
        symbol s = shape(%x, 1)
        input %x: f32[2, s, 24]
        %r = Reshape(shape=(2, s, 3, 8))(%x) : f32[2, s, 3, 8]
        %q = Transpose(perm=(0, 2, 1, 3))(%r) : f32[2, 3, s, 8]
        %transpose.1 = Transpose(perm=(0, 2, 1, 3))(%r) : f32[2, 3, s, 8]
        %attention = Attention(scale=1.0, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %transpose.1, %q, _, _, _, _) : f32[2, 3, s, 8]
        output y = %attention
    """)


def test_repeated_heads_are_read_unrepeated() -> None:
    check_pass(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 4, s, 8]
        input %k: f32[2, 2, t, 8]
        input %v: f32[2, 2, t, 8]
        %k1 = Reshape(shape=(2, 2, 1, t, 8))(%k) : f32[2, 2, 1, t, 8]
        %k2 = Expand(shape=(2, 2, 2, t, 8))(%k1) : f32[2, 2, 2, t, 8]
        %k3 = Reshape(shape=(2, 4, t, 8))(%k2) : f32[2, 4, t, 8]
        %v1 = Reshape(shape=(2, 2, 1, t, 8))(%v) : f32[2, 2, 1, t, 8]
        %v2 = Expand(shape=(2, 2, 2, t, 8))(%v1) : f32[2, 2, 2, t, 8]
        %v3 = Reshape(shape=(2, 4, t, 8))(%v2) : f32[2, 4, t, 8]
        %kt = Transpose(perm=(0, 1, 3, 2))(%k3) : f32[2, 4, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 4, s, t]
        %p = Softmax(axis=3)(%a) : f32[2, 4, s, t]
        %y = MatMul()(%p, %v3) : f32[2, 4, s, 8]
        output y = %y
    """, """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 4, s, 8]
        input %k: f32[2, 2, t, 8]
        input %v: f32[2, 2, t, 8]
        %attention.1 = Attention(scale=1.0, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %k, %v, _, _, _, _) : f32[2, 4, s, 8]
        output y = %attention.1
    """)


def test_probabilities_that_others_read_stay() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%a) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
        output p = %p
    """, "probabilities are read elsewhere")


def test_guarded_probabilities_that_others_read_stay() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        %zero = constant f32[] [0.0]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%a) : f32[2, 3, s, t]
        %n = Unary(fn="is_nan")(%p) : bool[2, 3, s, t]
        %g = Where()(%n, %zero, %p) : f32[2, 3, s, t]
        %y = MatMul()(%g, %v) : f32[2, 3, s, 8]
        output y = %y
        output p = %p
    """, "probabilities are read elsewhere")


def test_scores_that_others_read_stay() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%a) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
        output a = %a
    """, "scores are read elsewhere")


def test_a_softmax_over_another_axis_stays() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %p = Softmax(axis=2)(%a) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """)


def test_a_weak_mask_stays() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %seen: bool[s, t]
        %hidden = constant f32[] [-10000.0]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %z = Where()(%seen, %a, %hidden) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, "shows where all are hidden")


def test_scores_scaled_by_activations_stay() -> None:
    check_unchanged(RaiseAttention(), """
        symbol s = shape(%q, 2)
        symbol t = shape(%k, 2)
        input %q: f32[2, 3, s, 8]
        input %k: f32[2, 3, t, 8]
        input %v: f32[2, 3, t, 8]
        input %scale: f32[3, 1, 1]

        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[2, 3, 8, t]
        %a = MatMul()(%q, %kt) : f32[2, 3, s, t]

        %z = Binary(fn="mul")(%a, %scale) : f32[2, 3, s, t]

        %p = Softmax(axis=3)(%z) : f32[2, 3, s, t]
        %y = MatMul()(%p, %v) : f32[2, 3, s, 8]
        output y = %y
    """, "not one number")


def test_an_untransposed_k_stays() -> None:
    check_unchanged(RaiseAttention(), """
        input %q: f32[2, 3, 4, 8]
        input %k: f32[2, 3, 8, 4]
        input %v: f32[2, 3, 4, 8]
        %a = MatMul()(%q, %k) : f32[2, 3, 4, 4]
        %p = Softmax(axis=3)(%a) : f32[2, 3, 4, 4]
        %y = MatMul()(%p, %v) : f32[2, 3, 4, 8]
        output y = %y
    """, "not transposed")


def test_broadcast_keys_stay() -> None:
    check_unchanged(RaiseAttention(), """
        input %q: f32[2, 3, 4, 8]
        input %k: f32[1, 3, 4, 8]
        input %v: f32[2, 3, 4, 8]
        %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[1, 3, 8, 4]
        %a = MatMul()(%q, %kt) : f32[2, 3, 4, 4]
        %p = Softmax(axis=3)(%a) : f32[2, 3, 4, 4]
        %y = MatMul()(%p, %v) : f32[2, 3, 4, 8]
        output y = %y
    """, "batch and heads")


def test_rows_without_a_visible_key() -> None:
    # With -inf the chain gives NaN and the operator 0; with the lowest number both give the mean of all values.
    for hidden, expected in (("-inf", 0.0), ("-3.4028235e+38", None)):
        graph = graph_of(f"""
            input %q: f32[1, 1, 2, 4]
            input %k: f32[1, 1, 3, 4]
            input %v: f32[1, 1, 3, 4]
            %seen = constant bool[2, 3] [false, false, false, true, true, false]
            %hidden = constant f32[] [{hidden}]
            %kt = Transpose(perm=(0, 1, 3, 2))(%k) : f32[1, 1, 4, 3]
            %a = MatMul()(%q, %kt) : f32[1, 1, 2, 3]
            %z = Where()(%seen, %a, %hidden) : f32[1, 1, 2, 3]
            %p = Softmax(axis=3)(%z) : f32[1, 1, 2, 3]
            %y = MatMul()(%p, %v) : f32[1, 1, 2, 4]
            output y = %y
        """)
        feeds = random_feeds(graph)
        assert RaiseAttention().run(graph).rewrites["attention"] == 1
        row = evaluate(graph, feeds)["y"][0, 0, 0]
        np.testing.assert_allclose(row, feeds["v"][0, 0].mean(axis=0) if expected is None else expected, rtol=1e-5)
