"""Evaluation of constants at compile time, and what stays for run time."""
from __future__ import annotations

from dlc.limits import Limits
from dlc.passes.constant_folding import ConstantFolding
from tests.helpers.passes import check_pass, check_unchanged, graph_of


def test_chains_of_constants_become_one() -> None:
    check_pass(ConstantFolding(), """
        input %x: f32[2]
        %two = constant f32[] [2.0]
        %w = constant f32[2] [1.0, 3.0]
        %a = Binary(fn="mul")(%w, %two) : f32[2]
        %b = Unary(fn="neg")(%a) : f32[2]
        %y = Binary(fn="add")(%x, %b) : f32[2]
        output y = %y
    """, """
        input %x: f32[2]
        %b.1 = constant f32[2] [-2.0, -6.0]
        %y = Binary(fn="add")(%x, %b.1) : f32[2]
        output y = %y
    """)


def test_several_results_are_folded_together() -> None:
    check_pass(ConstantFolding(), """
        %w = constant f32[4] [1.0, 3.0, 2.0, 0.0]
        %values, %indices = TopK(axis=0, k=2, largest=true, sorted=true)(%w) : f32[2], i64[2]
        output values = %values
        output indices = %indices
    """, """
        %values.1 = constant f32[2] [3.0, 2.0]
        %indices.1 = constant i64[2] [1, 2]
        output values = %values.1
        output indices = %indices.1
    """)


def test_symbolic_attributes_stay() -> None:
    check_unchanged(ConstantFolding(), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %w = constant f32[1] [2.0]
        %e = Expand(shape=(n,))(%w) : f32[n]
        %y = Binary(fn="add")(%x, %e) : f32[n]
        output y = %y
    """, "an attribute is symbolic")


def test_results_much_larger_than_operands_stay() -> None:
    check_unchanged(ConstantFolding(), """
        %w = constant f32[1] [2.0]
        %e = Expand(shape=(100000,))(%w) : f32[100000]
        output y = %e
    """, "the result is larger than the operands")


def test_quantized_weights_stay_quantized() -> None:
    check_unchanged(ConstantFolding(), """
        %q = constant i8[2, 2] [1, 2, 3, 4]
        %scale = constant f32[] [0.5]
        %w = DequantizeLinear(axis=0, block_size=0, to=f32)(%q, %scale, _) : f32[2, 2]
        output y = %w
    """, "kept for later passes")


def test_faults_stay_for_run_time() -> None:
    check_unchanged(ConstantFolding(), """
        %w = constant f32[2] [1.0, 2.0]
        %i = constant i64[1] [5]
        %y = Gather(axis=0)(%w, %i) : f32[1]
        output y = %y
    """, "evaluation fails")


def test_what_binds_a_symbol_stays() -> None:
    check_unchanged(ConstantFolding(), """
        symbol n = element(%b, 0)
        %count = constant i64[1] [3]
        %b = Unary(fn="abs")(%count) : i64[1]
        %start = constant i64[] [0]
        %step = constant i64[] [1]
        %y = Range(extent=n)(%start, %step) : i64[n]
        output y = %y
    """, "a symbolic extent is bound")


LARGE = """
    %w = constant f32[2, 2] [1.0, 2.0, 3.0, 4.0]
    %y = MatMul()(%w, %w) : f32[2, 2]
    output y = %y
"""


def test_budgets_bound_bytes_and_operations() -> None:
    check_unchanged(ConstantFolding(Limits(folded_tensor_bytes=8)), LARGE, "bytes exceed")
    check_unchanged(ConstantFolding(Limits(folded_bytes=8)), LARGE, "bytes exceed")
    check_unchanged(ConstantFolding(Limits(folding_operations=4)), LARGE, "operations exceed")


def test_budget_is_for_all_nodes_together() -> None:
    graph = graph_of("""
        %w = constant f32[2] [1.0, 2.0]
        %a = Unary(fn="neg")(%w) : f32[2]
        %b = Unary(fn="abs")(%w) : f32[2]
        output a = %a
        output b = %b
    """)
    statistics = ConstantFolding(Limits(folded_bytes=12)).run(graph)
    assert statistics.total == 1 and len(statistics.declines) == 1
