"""Matrix multiplication: values against float64, equal bits however the work is cut, no stray access."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import compile_assembly, instruction_statistics
from dlc.backends.cpu.templates import gemm
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, Symbol, evaluate
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Contract, Kernel, LocalTensor, Monoid, Reduce, Store, StoreMode
from dlc.target import CpuTarget, native, resolve
from tests.backends.cpu.harness import each_target
from tests.backends.cpu.templates.gemm_kernels import Product, Tensor
from tests.backends.cpu.templates.kernel_runner import CompiledCase

WEIGHTS = Tensor("kn", constant=True)


def run(product: Product, target: CpuTarget, template: str = "gemm") -> dict[str, NDArray[Any]]:
    """Compile and run `product`, check the result, give the arrays."""
    case = CompiledCase(product.kernel(), target)
    assert case.compiled.template == template
    arrays = product.arrays()
    case.run(arrays, product.numbers)
    product.check(arrays)
    return arrays


def matrices(m: int, n: int, k: int, right: Tensor = WEIGHTS, **fields: Any) -> Product:
    """x[m, k] times `right`, plus a bias unless told otherwise."""
    options: dict[str, Any] = {"bias": "n", **fields}
    return Product(Tensor("mk"), right, Tensor("mn"), {"m": m, "n": n, "k": k}, **options)


# --- sizes


@each_target
@pytest.mark.parametrize("n", [16, 35, 48, 100, 131])
def test_run_time_rows_with_constant_weights(target: CpuTarget, n: int) -> None:
    product = matrices(1, n, 300, symbolic="m")
    case = CompiledCase(product.kernel(), target)
    assert case.compiled.template == "gemm"
    for m in (*range(1, 18), 31, 64, 200):
        sized = matrices(m, n, 300, symbolic="m")
        arrays = sized.arrays(m)
        case.run(arrays, sized.numbers)
        sized.check(arrays)


@each_target
@pytest.mark.parametrize("right", ["kn", "nk"])
@pytest.mark.parametrize("bias", ["n", ""])
def test_all_extents_at_run_time(target: CpuTarget, right: str, bias: str) -> None:
    case = CompiledCase(matrices(2, 2, 2, Tensor(right), symbolic="mnk", bias=bias).kernel(), target)
    sizes = (1, 3, 7, 16, 33, 50, 70)
    for m, n, k in [*itertools.product((1, 5, 35), sizes, (1, 17, 40)), (64, 200, 300), (9, 64, 513)]:
        product = matrices(m, n, k, Tensor(right), symbolic="mnk", bias=bias)
        arrays = product.arrays()
        case.run(arrays, product.numbers)
        product.check(arrays)


@each_target
@pytest.mark.parametrize("right", [WEIGHTS, Tensor("nk", constant=True), Tensor("kn"), Tensor("nk")])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(7, 35, 33), (1, 100, 300), (13, 17, 257), (200, 64, 64), (3, 70, 600)]
)
def test_fixed_extents(target: CpuTarget, right: Tensor, m: int, n: int, k: int) -> None:
    run(matrices(m, n, k, right), target)


@each_target
@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize(("n", "k"), [(1, 4097), (7, 600), (64, 64), (130, 33)])
def test_few_rows_with_columns_contiguous_along_the_depth(target: CpuTarget, m: int, n: int, k: int) -> None:
    run(matrices(m, n, k, Tensor("nk")), target)


@each_target
@pytest.mark.parametrize("right", [WEIGHTS, Tensor("kn"), Tensor("nk")])
def test_extents_of_zero(target: CpuTarget, right: Tensor) -> None:
    symbolic = "mk" if not right.constant else "m"
    case = CompiledCase(matrices(3, 40, 64, right, symbolic=symbolic).kernel(), target)
    for m, k in ((0, 64), (5, 64 if right.constant else 0), (0, 64 if right.constant else 0)):
        product = matrices(m, 40, k, right, symbolic=symbolic)
        arrays = product.arrays()
        case.run(arrays, product.numbers)
        if k:
            product.check(arrays)
        else:
            np.testing.assert_array_equal(arrays["y"], np.broadcast_to(arrays["b"], (m, 40)))


@each_target
def test_no_columns_at_run_time(target: CpuTarget) -> None:
    product = matrices(8, 0, 64, Tensor("kn"), symbolic="n")
    case = CompiledCase(product.kernel(), target)
    assert case.chunks(product.numbers) == 0


# --- where operands lie


@each_target
def test_padded_rows(target: CpuTarget) -> None:
    product = Product(
        Tensor("mk", pad=5), Tensor("kn", pad=3), Tensor("mn", pad=2), {"m": 33, "n": 70, "k": 40}
    )
    arrays = run(product, target)
    assert arrays["y"].base is not None


@each_target
@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        ("km", "kn", "mn"),
        ("mk", "nk", "nm"),
        ("abk", "kn", "abn"),
        ("abk", "kn", "ban"),
        ("bak", "kn", "abn"),
        ("amk", "akn", "amn"),
        ("mak", "ank", "man"),
        ("amk", "kn", "amn"),
        ("mk", "akn", "amn"),
        ("akl", "kln", "an"),
        ("akl", "lkn", "an"),
        ("alk", "kln", "an"),
        ("mk", "knc", "mnc"),
        ("mk", "nkc", "mnc"),
        ("mk", "nkc", "nmc"),
        ("k", "kn", "n"),
        ("mk", "k", "m"),
        ("k", "k", ""),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_roles_of_axes(target: CpuTarget, left: str, right: str, out: str, constant: bool) -> None:
    extents = {"a": 3, "b": 7, "c": 5, "m": 20, "n": 40, "k": 50, "l": 6}
    product = Product(Tensor(left), Tensor(right, constant=constant), Tensor(out), extents)
    if out == "":
        extents["k"] = 5000
    elif out in ("n", "m"):
        extents["k"] = 200
    run(product, target)


@each_target
def test_rows_of_two_axes_merge_at_run_time(target: CpuTarget) -> None:
    product = Product(
        Tensor("abk"), WEIGHTS, Tensor("abn"), {"a": 5, "b": 9, "n": 64, "k": 48}, symbolic="ab"
    )
    match = gemm.match(product.kernel(), Module(target))
    assert isinstance(match, Match)
    assert match.form.form.batch == ()
    assert match.form.form.row.extent == Symbol("A") * Symbol("B")
    run(product, target)


@each_target
@pytest.mark.parametrize("head", [32, 24])
def test_columns_split_into_heads_by_the_store(target: CpuTarget, head: int) -> None:
    """A projection whose result is stored head by head: y[c // head, m, c % head]."""

    def index(s: Mapping[str, Symbol]) -> list[Dim]:
        return [s["n"] // head, s["m"], s["n"] % head]

    product = dataclasses.replace(
        matrices(19, 96, 64, symbolic="m"), index=index, out_shape=(96 // head, Symbol("M"), head)
    )
    case = CompiledCase(product.kernel(), target)
    arrays = product.arrays()
    case.run(arrays, product.numbers)
    product.check(arrays, arrays["y"].transpose(1, 0, 2).reshape(19, 96))


@each_target
@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_narrow_floats_are_summed_in_f32(target: CpuTarget, dtype: DType) -> None:
    for right in ("kn", "nk"):
        for constant in (False, True):
            product = Product(
                Tensor("mk", dtype),
                Tensor(right, dtype, constant),
                Tensor("mn", dtype),
                {"m": 9, "n": 50, "k": 300},
            )
            run(product, target)


@each_target
def test_f64(target: CpuTarget) -> None:
    for right in (Tensor("kn", DType.F64, True), Tensor("kn", DType.F64), Tensor("nk", DType.F64)):
        for m in (2, 29):
            product = Product(
                Tensor("mk", DType.F64),
                right,
                Tensor("mn", DType.F64),
                {"m": m, "n": 50, "k": 300},
                dtype=DType.F64,
            )
            run(product, target)


@each_target
def test_epilogue(target: CpuTarget) -> None:
    def relu(value: e.Expr, s: Mapping[str, Symbol]) -> e.Expr:
        return e.Binary(DType.F32, "max", value, e.Const(DType.F32, 0.0))

    product = matrices(
        21, 77, 90, symbolic="m", epilogue=relu, expected_epilogue=lambda r: np.maximum(r, 0.0)
    )
    arrays = run(product, target)
    assert (arrays["y"] == 0).any()


@each_target
def test_a_masked_left_operand_is_computed(target: CpuTarget) -> None:
    """x padded by two rows of zeros, as a fused Pad reads it."""
    product = matrices(12, 40, 64)
    kernel = product.kernel()
    contract = kernel.body[0]
    assert isinstance(contract, Contract)
    m, k = kernel.axis("m").symbol, kernel.axis("k").symbol
    mask = (e.InRange(m - 2, 0, 10),)
    left = e.Load(DType.F32, "x", (m - 2, k), mask, e.Const(DType.F32, 0.0))
    kernel = dataclasses.replace(kernel, body=(dataclasses.replace(contract, left=left), *kernel.body[1:]))
    case = CompiledCase(kernel, target)
    assert case.compiled.template == "gemm"
    arrays = product.arrays()
    case.run(arrays)
    expected = arrays["x"].astype(np.float64)[:10] @ arrays["w"].astype(np.float64) + arrays["b"]
    np.testing.assert_allclose(arrays["y"][2:], expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(arrays["y"][:2], np.broadcast_to(arrays["b"], (2, 40)))


@each_target
def test_special_values_stay_in_their_rows_and_columns(target: CpuTarget) -> None:
    for right in (WEIGHTS, Tensor("kn"), Tensor("nk")):
        product = matrices(13, 70, 300, right)
        case = CompiledCase(product.kernel(), target)
        arrays = product.arrays()
        plain = {name: array.copy() for name, array in arrays.items()}
        case.run(plain)
        arrays["x"][3, 5] = np.nan
        arrays["x"][12, 299] = np.inf
        arrays["w"][(0, 69) if right.axes == "kn" else (69, 0)] = np.nan
        case.run(arrays)
        y = arrays["y"]
        assert np.isnan(y[3]).all() and np.isnan(y[:, 69]).all() and np.isinf(y[12, :69]).all()
        others = [row for row in range(13) if row not in (3, 12)]
        np.testing.assert_array_equal(y[others][:, :69], plain["y"][others][:, :69])


# --- how the work is cut


@each_target
@pytest.mark.parametrize("right", [WEIGHTS, Tensor("kn"), Tensor("nk")])
@pytest.mark.parametrize("bias", ["n", ""])
def test_a_row_has_the_same_bits_whatever_the_other_rows(target: CpuTarget, right: Tensor, bias: str) -> None:
    case = CompiledCase(matrices(1, 90, 520, right, symbolic="m", bias=bias).kernel(), target)
    largest = matrices(230, 90, 520, right, symbolic="m", bias=bias)
    arrays = largest.arrays()
    case.run(arrays, largest.numbers)
    for m in (1, 2, 3, 5, 6, 8, 11, 12, 31, 33, 100, 193):
        some = matrices(m, 90, 520, right, symbolic="m", bias=bias).arrays()
        first = 230 - m
        some["x"][...] = arrays["x"][first:]
        for name in ("w", "b"):
            if name in some:
                some[name][...] = arrays[name]
        case.run(some, {"M": m})
        np.testing.assert_array_equal(some["y"], arrays["y"][first:])


@each_target
def test_neither_order_nor_threads_of_chunks_show(target: CpuTarget) -> None:
    product = Product(
        Tensor("amk"), Tensor("akn"), Tensor("amn"), {"a": 6, "m": 150, "n": 200, "k": 300}, symbolic="am"
    )
    case = CompiledCase(product.kernel(), target)
    chunks = case.chunks(product.numbers)
    assert chunks >= 8
    arrays = product.arrays()
    case.run(arrays, product.numbers)
    product.check(arrays)
    expected = arrays["y"].copy()
    arrays["y"][...] = 7
    case.run(arrays, product.numbers, order=reversed(range(chunks)), scratch_byte=0)
    np.testing.assert_array_equal(arrays["y"], expected)
    arrays["y"][...] = 7
    case.run(arrays, product.numbers, threads=4)
    np.testing.assert_array_equal(arrays["y"], expected)


@pytest.mark.parametrize(
    ("m", "n", "k", "least", "most"),
    [
        (1, 64, 64, 1, 1),
        (8, 64, 64, 1, 1),
        (128, 768, 768, 8, 64),
        (1, 4096, 4096, 8, 64),
        (1, 768, 768, 6, 64),
        (1024, 1024, 1024, 32, 64),
        (0, 768, 768, 0, 0),
    ],
)
def test_chunks_follow_the_work(m: int, n: int, k: int, least: int, most: int) -> None:
    product = matrices(m, n, k, symbolic="m")
    match = gemm.match(product.kernel(), Module(native()))
    assert isinstance(match, Match)
    assert least <= evaluate(match.form.chunks, {"M": m}) <= most


@pytest.mark.parametrize("n", [64, 96, 768, 1000, 17])
@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3"])
def test_tiles_stay_in_registers(name: str, n: int) -> None:
    target = resolve(name)
    for right in (WEIGHTS, Tensor("kn")):
        text = _text(matrices(1, n, 768, right, symbolic="m").kernel(), target)
        assembly = compile_assembly(text, target)
        tiles = [
            line.split("@")[1].split("(")[0]
            for line in text.splitlines()
            if line.startswith("define internal") and "@gemm_" in line
        ]
        assert tiles
        for tile in tiles:
            assert instruction_statistics(assembly, tile).spills == 0


def _text(kernel: Kernel, target: CpuTarget) -> str:
    module = Module(target)
    match = gemm.match(kernel, Module(target))
    assert isinstance(match, Match)
    gemm.emit(module, "kernel", match)
    return module.text()


# --- what is declined


def _declined(kernel: Kernel) -> str:
    match = gemm.match(kernel, Module(native()))
    assert isinstance(match, Declined)
    return match.reason


def test_reasons_for_declining() -> None:
    kernel = matrices(64, 64, 64).kernel()
    contract, store = kernel.body
    assert isinstance(store, Store)
    total = LocalTensor("total", DType.F32, ("m",))
    read = e.Read(DType.F32, "sum", (kernel.axis("m").symbol, kernel.axis("n").symbol))
    reduce = Reduce((total,), ("n",), Monoid.SUM, (read,))
    assert "Reduce follows" in _declined(dataclasses.replace(kernel, body=(contract, reduce)))
    adding = dataclasses.replace(store, mode=StoreMode.ADD)
    assert "not one of each element" in _declined(dataclasses.replace(kernel, body=(contract, adding)))
    assert "does not start" in _declined(dataclasses.replace(kernel, body=(store,)))
    shifted = e.Read(DType.F32, "sum", (kernel.axis("n").symbol, kernel.axis("m").symbol))
    other = dataclasses.replace(store, value=shifted)
    assert "other elements" in _declined(dataclasses.replace(kernel, body=(contract, other)))
    assert "too small" in _declined(matrices(4, 4, 4).kernel())
    integers = Product(
        Tensor("mk", DType.I32),
        Tensor("kn", DType.I32),
        Tensor("mn", DType.I32),
        {"m": 64, "n": 64, "k": 64},
        dtype=DType.I32,
    )
    assert "i32" in _declined(integers.kernel())
