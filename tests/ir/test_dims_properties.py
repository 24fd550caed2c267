"""Dims against brute force: random expressions over three symbols, at every value of the symbols."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dlc.ir.dims import (
    DimExpr,
    Evaluator,
    Guard,
    Relation,
    bounds,
    divides,
    evaluate,
    exact_quotient,
    floordiv,
    free_symbols,
    is_nonnegative,
    is_positive,
    known_equal,
    known_le,
    linear,
    maximum,
    minimum,
    mod,
    operands,
    parse,
    rebuild,
    substitute,
    to_text,
)
from tests.helpers.dim_trees import (
    ENVIRONMENTS,
    NAMES,
    POLYNOMIALS,
    SYMBOLS,
    TREES,
    TREES_WITH_BROADCAST,
    IncompatibleError,
    Tree,
    build,
    value,
)

SLOW = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(TREES)
def test_value_and_bounds(tree: Tree) -> None:
    dim = build(tree)
    expected = [value(tree, env) for env in ENVIRONMENTS]
    evaluator = Evaluator([dim])
    assert [evaluator(env)[0] for env in ENVIRONMENTS] == expected
    low, high = bounds(dim)
    assert low is None or low <= min(expected)
    assert high is None or high >= max(expected)
    assert not is_nonnegative(dim) or min(expected) >= 0
    assert not is_positive(dim) or min(expected) > 0
    if isinstance(dim, DimExpr):
        assert low is not None and high is not None, "all symbols are bounded"


@SLOW
@given(TREES_WITH_BROADCAST)
def test_value_with_broadcast(tree: Tree) -> None:
    evaluator = Evaluator([build(tree)])
    for env in ENVIRONMENTS:
        try:
            expected = value(tree, env)
        except IncompatibleError:
            continue
        assert evaluator(env)[0] == expected


@SLOW
@given(TREES, TREES)
def test_order_and_guards(left_tree: Tree, right_tree: Tree) -> None:
    left, right = build(left_tree), build(right_tree)
    pairs = [(value(left_tree, env), value(right_tree, env)) for env in ENVIRONMENTS]
    assert not known_le(left, right) or all(x <= y for x, y in pairs)
    assert not known_equal(left, right) or all(x == y for x, y in pairs)
    for relation in Relation:
        guard = Guard(relation, left, right, "")
        held = {guard.holds(env) for env in ENVIRONMENTS}
        assert guard.known() is None or held == {guard.known()}


@SLOW
@given(TREES, TREES, TREES)
def test_substitution_commutes_with_evaluation(tree: Tree, for_a: Tree, for_b: Tree) -> None:
    replacements = {"a": minimum(maximum(build(for_a), 0), 4), "b": minimum(maximum(build(for_b), 1), 5)}
    dim = build(tree)
    replaced = Evaluator([substitute(dim, replacements)])
    values = Evaluator(list(replacements.values()))
    original = Evaluator([dim])
    for env in ENVIRONMENTS:
        assert replaced(env) == original({**env, **dict(zip("ab", values(env), strict=True))})


@SLOW
@given(TREES_WITH_BROADCAST)
def test_round_trips(tree: Tree) -> None:
    dim = build(tree)
    assert parse(to_text(dim), NAMES) == dim
    assert pickle.loads(pickle.dumps(dim)) == dim


@SLOW
@given(TREES)
def test_canonical_form_is_a_fixed_point(tree: Tree) -> None:
    pending = [build(tree)]
    while pending:
        dim = pending.pop()
        if isinstance(dim, DimExpr):
            assert rebuild(dim, operands(dim)) is dim
            pending.extend(operands(dim))


@SLOW
@given(TREES)
def test_linear(tree: Tree) -> None:
    dim = build(tree)
    for symbol in SYMBOLS:
        parts = linear(dim, symbol)
        if parts is not None:
            coefficient, rest = parts
            assert symbol not in free_symbols(coefficient) | free_symbols(rest)
            assert coefficient * symbol + rest == dim


@SLOW
@given(TREES, st.integers(1, 12))
def test_divides(tree: Tree, divisor: int) -> None:
    dim = build(tree)
    if divides(divisor, dim):
        assert all(evaluate(dim, env) % divisor == 0 for env in ENVIRONMENTS)
    assert divides(divisor, dim * divisor)


@SLOW
@given(TREES, TREES)
def test_exact_quotient(tree: Tree, other: Tree) -> None:
    left, right = build(tree), build(other)
    quotient = exact_quotient(left, right)
    assert quotient is None or quotient * right == left


@SLOW
@given(POLYNOMIALS, POLYNOMIALS)
def test_exact_quotient_of_polynomials(tree: Tree, other: Tree) -> None:
    left, right = build(tree), build(other)
    if right != 0:
        assert exact_quotient(left * right, right) == left


@pytest.mark.parametrize("extent", [1, 3, 8])
@given(TREES)
@settings(parent=SLOW, max_examples=50)
def test_quotient_and_remainder_recombine(extent: int, tree: Tree) -> None:
    dim = build(tree)
    whole = floordiv(dim, extent) * extent + mod(dim, extent)
    assert [evaluate(whole, env) for env in ENVIRONMENTS] == [evaluate(dim, env) for env in ENVIRONMENTS]
