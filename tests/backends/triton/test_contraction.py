"""Matrix products and convolutions by the templates of the GPU backend, against the kernel evaluator."""

from __future__ import annotations

import dataclasses

import pytest

from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.resources import measure
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.backends.triton.templates import configurations, contraction, contraction_form
from dlc.backends.triton.templates.template import Launches
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget, resolve_gpu
from tests.backends.triton.contraction_kernels import SM_80, SM_90, compare, convolution, matmul, parsed

pytest.importorskip("triton")


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(15, 33, 64), (64, 64, 64), (65, 129, 65), (1, 17, 40), (33, 1, 31)])
def test_products(dtype: str, transposed: bool, size: tuple[int, int, int]) -> None:
    compare(matmul(*size, dtype, transposed=transposed))


@pytest.mark.parametrize("epilogue", ["none", "relu", "gelu", "silu", "tanh"])
def test_epilogues(epilogue: str) -> None:
    compare(matmul(40, 48, 32, "f16", epilogue=epilogue), target=SM_80)


@pytest.mark.parametrize("rows", [1, 16, 63, 130])
def test_symbolic_rows(rows: int) -> None:
    compare(matmul("n", 48, 80, "bf16", symbols="symbol n"), {"n": rows})


@pytest.mark.parametrize("numbers", [(1, 1, 1), (17, 33, 65), (64, 16, 32), (3, 70, 0)])
def test_everything_symbolic(numbers: tuple[int, int, int]) -> None:
    kernel = matmul("n", "m", "k", "f32", symbols="symbol n\n symbol m\n symbol k\n symbol h", batch="h")
    compare(kernel, {**dict(zip("nmk", numbers)), "h": 3})


@pytest.mark.parametrize("batch", [1, 3, "h"])
def test_batches(batch: int | str) -> None:
    symbols = "symbol h" if batch == "h" else ""
    kernel = matmul(33, 18, 20, "f16", batch=batch, transposed=True, symbols=symbols)
    compare(kernel, {"h": 4} if symbols else None)


CONVOLUTIONS = [
    convolution(2, 24, (9, 7), 20, 3),
    convolution(2, 24, (9, 7), 20, 3, "f32", channels_last=True, packed=True),
    convolution(1, 16, (12, 12), 33, 3, "bf16", stride=2, channels_last=True),
    convolution(1, 64, (7, 7), 16, 1, pad=0),
    convolution(2, 17, (8, 8), 18, 1, pad=0, stride=2, packed=True),
    convolution(1, 3, (17, 15), 16, 7, stride=2),
    convolution(1, 3, (17, 15), 16, 7, stride=2, channels_last=True, packed=True),
    convolution(1, 16, (10, 10), 16, 3, "f32", dilation=2),
    convolution(2, 32, (6, 6), 32, 3, groups=2),
    convolution(1, 96, (5, 5), 64, 3, groups=4, channels_last=True),
    convolution("n", 20, (6, 6), 24, 3, symbols="symbol n"),
    convolution(2, 18, (30,), 20, 5, "f16", dilation=2),
    convolution(1, 16, (3, 4, 5), 17, 3, "f32"),
    convolution(1, 16, (5, 6, 7), 17, 2, "f16", pad=0, channels_last=True),
]


@pytest.mark.parametrize("kernel", CONVOLUTIONS, ids=range(len(CONVOLUTIONS)))
def test_convolutions(kernel: Kernel) -> None:
    compare(kernel, {"n": 3})


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8", "u8"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(1, 100, 300), (3, 64, 1024), (70, 2, 65), (1, 1, 2048), (4, 33, 77)])
def test_few_points(dtype: str, transposed: bool, size: tuple[int, int, int]) -> None:
    code = compare(matmul(*size, dtype, transposed=transposed))
    assert code.calls[0].template == "gemv"


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"channels": 12, "outputs": 12, "groups": 12, "taps": 3},
        {"channels": 6, "outputs": 12, "groups": 6, "taps": 5, "stride": 2},
        {"channels": 4, "outputs": 4, "groups": 4, "taps": 7, "dilation": 2},
        {"channels": 16, "outputs": 8, "groups": 4, "taps": 3},
    ],
)
def test_depthwise(options: dict[str, int], channels_last: bool) -> None:
    sizes = {"sizes": (13, 11), "batch": 2}
    kernel = convolution(**sizes, **options, channels_last=channels_last)  # type: ignore[arg-type]
    assert compare(kernel).calls[0].template == "direct"


@pytest.mark.parametrize(
    "kernel",
    [
        matmul(20, 36, 192, "f32"),
        matmul(5, 40, 256, "bf16", transposed=True),
        matmul("n", 24, 128, "f16", symbols="symbol n"),
        matmul(17, 24, 128, "i8", batch=2),
        convolution(1, 64, (5, 5), 40, 3, channels_last=True, packed=True),
        convolution(1, 64, (5, 5), 40, 3, "f32", groups=2),
    ],
    ids=range(6),
)
def test_divided_depth(kernel: Kernel) -> None:
    """Every number of parts gives the same as one."""
    form = contraction_form.match(kernel)
    assert isinstance(form, contraction_form.Form)
    first = configurations.candidates(form, SM_90)[0]
    for chunks in (1, 2, 4):
        config = dataclasses.replace(first, depth=16 if form.operand.bits > 8 else 32, chunks=chunks)
        written = contraction.emit(kernel, form, SM_90, config)
        assert isinstance(written, Launches) == (chunks > 1)
        calls = written.calls if isinstance(written, Launches) else (written,)
        spaces = written.workspaces if isinstance(written, Launches) else ()
        compare(kernel, {"n": 19}, code=GpuKernel(kernel, calls, spaces))


def test_tf32_is_a_choice() -> None:
    rounded = dataclasses.replace(SM_90, f32_products="tf32")
    kernel = matmul(64, 64, 64, "f32")
    texts = {target: emit_kernel(kernel, target).calls[0].function.text for target in (SM_90, rounded)}
    assert 'input_precision="ieee"' in texts[SM_90]
    assert 'input_precision="tf32"' in texts[rounded]
    # Where the GPU has no such instructions the choice has no effect.
    other = dataclasses.replace(resolve_gpu("hip:gfx950"), f32_products="tf32")
    assert 'input_precision="ieee"' in emit_kernel(kernel, other).calls[0].function.text


#: What each kernel's function must have on sm_90 and on sm_80.
GATES = {
    "products": matmul(512, 512, 512),
    "products of rows": matmul(512, 768, 768, "bf16", transposed=True),
    "gelu": matmul(512, 3072, 768, epilogue="gelu"),
    "symbolic": matmul("n", 768, 768, symbols="symbol n"),
    "integers": matmul(512, 512, 512, "i8", transposed=True),
    "batches": matmul(128, 64, 128, "f16", batch=12),
    "1x1": convolution(8, 256, (14, 14), 1024, 1, pad=0),
    "1x1 channels last": convolution(8, 256, (14, 14), 1024, 1, pad=0, channels_last=True),
    "3x3 channels last": convolution(8, 128, (28, 28), 128, 3, channels_last=True, packed=True),
    "3x3": convolution(1, 128, (28, 28), 128, 3, epilogue="silu"),
    "first layer": convolution(1, 3, (224, 224), 64, 7, stride=2, channels_last=True),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("target", [SM_80, SM_90], ids=["sm_80", "sm_90"])
def test_resources(name: str, target: GpuTarget) -> None:
    (call, *_) = emit_kernel(GATES[name], target).calls
    found = measure(compile_function(call.function, target))
    assert found.spill_bytes == 0
    assert found.wgmma + found.mma > 0
    # Shifted rows of an image lie at odd addresses; few channels are gathered one by one.
    if name not in ("3x3", "first layer"):
        assert found.async_copies > 0


def test_a_batch_of_one_operand_is_more_rows() -> None:
    text = """kernel product {
      symbol n
      read x: f16[n, 5, 40]
      read constant w: f16[40, 24]
      write y: f32[n, 5, 24]
      axis b: n
      axis i: 5
      axis j: 24
      axis c: 40 reduce
      for b, i, j: s: f32 = contract over c of f32(x[b, i, c]), f32(w[c, j]) with batch(b) rows(i) columns(j)
      for b, i, j: y[b, i, j] = s[b, i, j]
    }"""
    kernel = parsed(text)
    form = contraction_form.match(kernel)
    assert isinstance(form, contraction_form.Form)
    assert not form.batch
    assert [axis.name for axis in form.rows] == ["b", "i"]
    compare(kernel, {"n": 7})


#: Prologues of integer operands, and the digits that hold what they give.
INTEGERS = [
    ("i32", "x[i, c]", 4),
    ("i8", "i32(x[i, c])", 1),
    ("u8", "i32(x[i, c])", 2),
    ("u8", "i32(x[i, c]) - i32(zero[])", 2),
    ("u8", "i32(x[i, c]) - 128:i32", 1),
]


@pytest.mark.parametrize(("dtype", "left", "digits"), INTEGERS)
@pytest.mark.parametrize("right", ["i32(w[c, j])", "i32(w[c, j]) - i32(other[j])"])
def test_integers_by_digits(dtype: str, left: str, digits: int, right: str) -> None:
    """Every i32 counts modulo 2^32, and small ones take fewer products."""
    text = f"""kernel product {{
      read x: {dtype}[37, 50]
      {"read zero: u8[]" if "zero" in left else ""}
      read w: i8[50, 33]
      {"read other: i8[33]" if "other" in right else ""}
      write y: i32[37, 33]
      axis i: 37
      axis j: 33
      axis c: 50 reduce
      for i, j: s: i32 = contract over c of {left}, {right} with rows(i) columns(j)
      for i, j: y[i, j] = s[i, j]
    }}"""
    kernel = parsed(text)
    form = contraction_form.match(kernel)
    assert isinstance(form, contraction_form.Form)
    assert form.digits == (1, 1) if form.operand is DType.I8 else form.digits[0] == digits
    assert "tl.dot" in compare(kernel).calls[0].function.text


@pytest.mark.parametrize("dtype", ["f8e4m3fn", "f8e5m2"])
def test_eight_bit_floats(dtype: str) -> None:
    kernel = matmul(40, 48, 160, dtype, transposed=True, epilogue="none")
    code = compare(kernel)
    found = measure(compile_function(code.calls[0].function, SM_90))
    assert found.spill_bytes == 0
    assert found.wgmma + found.mma > 0
    if dtype == "f8e5m2":
        found = measure(compile_function(compare(kernel, target=SM_80).calls[0].function, SM_80))
        assert found.mma > 0
