"""Triton functions compiled without a GPU: what the binaries hold and use, errors, processes, the store."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence

import pytest

pytest.importorskip("triton")

from dlc.backends.triton import binary as binaries
from dlc.backends.triton.binary import GpuBinary, compile_function, compile_functions
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.resources import Resources, measure
from dlc.errors import InternalError, UnsupportedError
from dlc.ir.dtypes import DType
from dlc.runtime.cache import Cache
from dlc.runtime.cuda.module import KernelBinary
from dlc.target import resolve_gpu
from tests.helpers.gpu_kernels import attention, gelu, kernel, matmul, softmax

SM80, SM90, GFX942 = "cuda:sm_80", "cuda:sm_90", "hip:gfx942"
ELF = b"\x7fELF"
TILE = (128, 128, 64)


def product(dtype: DType, result: DType, precision: str = "ieee", depth: int = 64) -> TritonFunction:
    return matmul(dtype, result, 1024, 512, (128, 128, depth), precision, num_warps=8)


POINTWISE = {
    "gelu-f16": gelu(DType.F16, 1024),
    "gelu-bf16": gelu(DType.BF16, 1024),
    "softmax-f32": softmax(DType.F32, 1000, 1024),
}
PRODUCTS = {
    "f16": product(DType.F16, DType.F16),
    "bf16": product(DType.BF16, DType.BF16),
    "i8": product(DType.I8, DType.I32, depth=128),
    "tf32": product(DType.F32, DType.F32, "tf32", depth=32),
    "f8": product(DType.F8E4M3FN, DType.F16, depth=128),
    "attention-f16": attention(DType.F16, 64, (128, 64)),
    "attention-bf16": attention(DType.BF16, 64, (128, 64)),
}


def compiled(function: TritonFunction, target: str) -> tuple[GpuBinary, Resources]:
    """A binary that its target can run, without spilling."""
    gpu = resolve_gpu(target)
    binary = compile_function(function, gpu)
    resources = measure(binary)
    assert binary.code.startswith(ELF) and binary.entry == function.name
    assert binary.parameters == tuple(function.signature.values())
    assert resources.spill_bytes == 0 and not resources.notes
    assert 0 < resources.registers <= 255
    assert resources.registers * binary.num_warps * gpu.warp_size <= gpu.registers
    assert resources.shared_bytes == binary.shared_bytes <= gpu.shared_bytes
    return binary, resources


@pytest.mark.parametrize("target", [SM80, SM90, GFX942])
@pytest.mark.parametrize("name", ["gelu-f16", "softmax-f32"])
def test_pointwise_functions(name: str, target: str) -> None:
    binary, resources = compiled(POINTWISE[name], target)
    assert resources.registers <= 64 and resources.wgmma == resources.mma == 0
    assert (binary.num_warps, binary.num_ctas, binary.scratch_bytes) == (4, 1, 0)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_use_the_tensor_cores_of_hopper(name: str) -> None:
    _, resources = compiled(PRODUCTS[name], SM90)
    assert resources.wgmma > 0 and resources.async_copies > 0


@pytest.mark.parametrize("name", ["bf16", "i8", "tf32"])
def test_products_use_the_tensor_cores_of_ampere(name: str) -> None:
    _, resources = compiled(PRODUCTS[name], SM80)
    assert resources.mma > 0 and resources.wgmma == 0 and resources.async_copies > 0


@pytest.mark.parametrize("name", ["f16", "i8", "attention-bf16"])
def test_products_use_the_matrix_instructions_of_amd(name: str) -> None:
    function = dataclasses.replace(PRODUCTS[name], num_stages=2)
    _, resources = compiled(function, GFX942)
    assert resources.mma > 0


def test_float32_products_use_no_tensor_cores() -> None:
    _, resources = compiled(matmul(DType.F32, DType.F32, 512, 512, (64, 64, 32)), SM90)
    assert resources.wgmma == resources.mma == 0


def test_resources_count_spills() -> None:
    function = matmul(DType.F16, DType.F16, 512, 512, (64, 128, 32), num_warps=1)
    assert measure(compile_function(function, resolve_gpu(SM90))).spill_bytes > 0


def test_a_binary_travels_as_data_and_as_bytes() -> None:
    binary = compile_function(POINTWISE["gelu-f16"], resolve_gpu(SM90))
    data = json.loads(json.dumps(binary.to_dict()))
    assert data["arch"] == 90 and data["backend"] == "cuda" and "code" not in data
    assert GpuBinary.from_dict(data, binary.code, binary.assembly) == binary
    assert GpuBinary.from_bytes(memoryview(binary.to_bytes())) == binary
    assert ".target sm_90a" in binary.assembly


@pytest.mark.parametrize("index", ["i32", "i64"])
def test_the_cubin_takes_what_the_runtime_passes(index: str) -> None:
    function = dataclasses.replace(POINTWISE["gelu-bf16"], index=index)
    binary = compile_function(function, resolve_gpu(SM90))
    kernel_binary = KernelBinary(
        entry=binary.entry,
        code=binary.code,
        shared=binary.shared_bytes,
        num_warps=binary.num_warps,
        num_ctas=binary.num_ctas,
        parameters=binary.parameters,
        scratch=binary.scratch_bytes,
        scratch_alignment=binary.scratch_alignment,
        arch=f"sm_{binary.arch}",
    )
    types = [parameter.type for parameter in kernel_binary.check()]
    assert types == ["*bf16", "*bf16", index, "*scratch", "*profile"]


def test_equal_functions_give_equal_binaries_wherever_their_text_lies(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = POINTWISE["gelu-f16"]
    first = compile_function(function, resolve_gpu(SM90))
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path_factory.mktemp("other")))
    moved = dataclasses.replace(function, text=function.text.replace("hand-written", "the same"))
    assert moved.digest == function.digest
    assert compile_function(moved, resolve_gpu(SM90)) == first


def test_tritons_own_cache_is_not_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("triton")
    before = os.environ.get("TRITON_CACHE_DIR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(folder))
        compile_function(gelu(DType.F16, 512), resolve_gpu(SM90))
        assert os.environ["TRITON_CACHE_DIR"] == str(folder)
    assert list(folder.iterdir()) == [] and os.environ.get("TRITON_CACHE_DIR") == before


BROKEN = kernel("tl.store(y, undefined_name)", (("y", DType.F32),))
#: Ends the process that loads it in a worker, where no parent holds pytest.
DEADLY = kernel(
    "pass", (("y", DType.F32),), before="import os, sys\n'pytest' in sys.modules or os._exit(3)\n\n\n"
)


@pytest.mark.parametrize("target", [SM90, GFX942])
def test_errors_of_triton_name_the_function(target: str) -> None:
    with pytest.raises(InternalError, match=rf"(?s)the function k for {target}: .*undefined_name") as caught:
        compile_function(BROKEN, resolve_gpu(target))
    assert caught.value.code == "internal"


def test_types_that_an_architecture_lacks() -> None:
    with pytest.raises(InternalError, match="fp8e4nv not supported"):
        compile_function(gelu(DType.F8E4M3FN, 256), resolve_gpu(SM80))


def test_triton_in_interpreter_mode_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UnsupportedError, match="TRITON_INTERPRET"):
        compile_function(POINTWISE["gelu-f16"], resolve_gpu(SM90))


class Counting:
    """Counts what is compiled in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(binaries, "compile_function", self.compile)

    def compile(self, function: TritonFunction, target: object) -> GpuBinary:
        self.names.append(function.text)
        return compile_function(function, resolve_gpu(SM90))


def test_equal_functions_are_compiled_once_and_kept_in_the_store(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, store = Counting(monkeypatch), Cache(tmp_path_factory.mktemp("cache"))
    first, second = POINTWISE["gelu-f16"], POINTWISE["gelu-bf16"]
    target = resolve_gpu(SM90)
    results = compile_functions([first, second, first], target, store=store)
    assert [result.parameters[0] for result in results] == ["*fp16", "*bf16", "*fp16"]
    assert results[0] == results[2] and len(counting.names) == 2
    assert compile_functions([second, first], target, store=store) == results[1::-1]
    assert len(counting.names) == 2 and store.info().entries == 2
    compile_functions([first], dataclasses.replace(target, warp_size=31), jobs=1, store=store)
    assert len(counting.names) == 3
    assert compile_functions([], target, store=store) == []


def test_processes_give_the_same_binaries() -> None:
    functions = [gelu(DType.F16, 1 << n) for n in range(7, 11)]
    target = resolve_gpu(SM90)
    assert compile_functions(functions, target, jobs=2) == compile_functions(functions, target, jobs=1)


@pytest.mark.parametrize(
    ("wrong", "message"), [((BROKEN,), "undefined_name"), ((DEADLY, BROKEN), "the function k for a GPU died")]
)
def test_errors_of_other_processes(wrong: Sequence[TritonFunction], message: str) -> None:
    functions = [POINTWISE["gelu-f16"], *wrong]
    with pytest.raises(InternalError, match=message):
        compile_functions(functions, resolve_gpu(SM90), jobs=2)


def test_as_many_workers_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "usable_cpus", lambda: 8)
    small, large = POINTWISE["gelu-f16"], PRODUCTS["f16"]
    assert binaries._workers_that_pay([small] * 20) == 0
    assert binaries._workers_that_pay([large] * 8) == 2
    assert binaries._workers_that_pay([large] * 100) == 8
