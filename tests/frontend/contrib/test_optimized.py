"""Models that onnxruntime's optimizer has rewritten: they compile natively, in as few kernels, and agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import dlc
from dlc.verify.tolerances import Work
from tests.frontend.contrib.optimized import encoder, images, optimized, quantized_images, written
from tests.helpers.extension_cases import assert_close
from tests.helpers.onnx_cases import Array, run_onnxruntime

EXTENDED, ALL = "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"

ENCODER = {"microsoft.SkipLayerNormalization", "microsoft.BiasGelu", "microsoft.FusedMatMul"}
QUANTIZED = {"microsoft.QGemm", "microsoft.QLinearAdd", "microsoft.QLinearGlobalAveragePool"}
#: What the optimizer writes on x86-64 processors.
BLOCKED = {
    f"nchwc.{name}"
    for name in "ReorderOutput Conv MaxPool AveragePool GlobalMaxPool GlobalAveragePool".split()
} | {"nchwc.Upsample", "microsoft.FusedGemm"}


@pytest.mark.parametrize(
    ("build", "level", "expected"),
    [
        (encoder, EXTENDED, ENCODER),
        (encoder, ALL, ENCODER),
        (images, EXTENDED, {"microsoft.FusedConv", "microsoft.FusedGemm"}),
        (images, ALL, BLOCKED),
        (quantized_images, EXTENDED, QUANTIZED),
        (quantized_images, ALL, QUANTIZED | {"microsoft.QLinearConv", "microsoft.NhwcMaxPool"}),
    ],
)
def test_optimized_model(
    build: Callable[[], tuple[onnx.ModelProto, Mapping[str, Array]]],
    level: str,
    expected: set[str],
    tmp_path: Path,
) -> None:
    plain, feeds = build()
    rewritten = optimized(plain, level, tmp_path)
    assert written(rewritten) >= expected
    wanted = run_onnxruntime(plain, feeds)
    assert wanted is not None
    work = Work.QUANTIZED_MODEL if build is quantized_images else Work.MODEL
    with (
        dlc.compile(plain, strict=True, cache=False) as before,
        dlc.compile(rewritten, strict=True, cache=False) as after,
    ):
        for index, (got, want) in enumerate(zip(after.run(None, feeds), wanted, strict=True)):
            assert_close(f"result {index}", np.asarray(got), want, work, 0)
        # Whole blocks of channels may take a padding and a slice more.
        assert len(after.report().kernels) <= len(before.report().kernels) + 2


@pytest.mark.parametrize("level", [EXTENDED, ALL])
def test_an_encoder_reaches_the_kernels_of_attention_and_norms(level: str, tmp_path: Path) -> None:
    plain, _ = encoder()
    with dlc.compile(optimized(plain, level, tmp_path), strict=True, cache=False) as compiled:
        kernels = [
            (kernel.template, kernel.function.partition("_")[2]) for kernel in compiled.report().kernels
        ]
    assert [name for template, name in kernels if template == "attention"] == ["attention_transpose"]
    assert [name for _, name in kernels if "layernorm" in name] == ["layernorm", "layernorm"]
    assert sum(template == "gemm" for template, _ in kernels) == 6 == len(kernels) - 3
