"""onnxruntime's operators against onnxruntime, on generated cases."""

from __future__ import annotations

from collections import Counter

import pytest

from dlc.frontend.onnx.registry import operators
from tests.frontend.contrib import (
    activations,
    attention,
    group_attention,
    normalizations,
    products,
    quantized,
    quantized_products,
    shapes,
)
from tests.frontend.contrib.cases import Structure

FAMILIES = (
    activations,
    products,
    normalizations,
    attention,
    group_attention,
    quantized,
    quantized_products,
    shapes,
)
STRUCTURES: list[Structure] = [structure for family in FAMILIES for structure in family.structures()]

#: What exporters, onnxruntime's optimizer and its quantizer write.
WRITTEN = (
    "FusedConv FusedMatMul FusedGemm Gelu BiasGelu FastGelu QuickGelu SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization SimplifiedLayerNormalization EmbedLayerNormalization "
    "LayerNormalization Attention MultiHeadAttention GroupQueryAttention RotaryEmbedding MatMulNBits "
    "MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM QLinearAdd QLinearMul QLinearConcat "
    "QLinearSigmoid QLinearLeakyRelu QLinearGlobalAveragePool QLinearAveragePool QLinearSoftmax QGemm "
    "QAttention QuantizeLinear DequantizeLinear NhwcMaxPool Inverse Trilu CropAndResize GridSample "
    "ExpandDims BiasSoftmax BiasAdd GroupNorm NhwcConv ConvTransposeWithDynamicPads "
    # neighbours
    "BiasSplitGelu BiasDropout SkipGroupNorm NhwcFusedConv QLinearReduceMean QLinearWhere QLinearConv "
    "QEmbedLayerNormalization GatherBlockQuantized CDist"
).split()
#: Cases that each of them has at least.
LEAST = 20


def _named(structures: list[Structure]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for structure in structures:
        names.append(f"{structure.op_type}-{seen[structure.op_type]}")
        seen[structure.op_type] += 1
    return names


@pytest.mark.parametrize("structure", STRUCTURES, ids=_named(STRUCTURES))
def test_operator(structure: Structure) -> None:
    structure.check()


#: A part of them, whose extents may be numbers of the model as well.
SOME = [structure for structure in STRUCTURES if structure.sizes[0]][::5]


@pytest.mark.parametrize("structure", SOME, ids=_named(SOME))
def test_known_extents(structure: Structure) -> None:
    structure.known.check()


def test_enough_cases() -> None:
    counts: Counter[str] = Counter()
    for structure in STRUCTURES:
        counts[structure.op_type] += len(structure.sizes)
    assert {name: counts[name] for name in WRITTEN if counts[name] < LEAST} == {}


def test_every_operator_of_the_domain_is_met() -> None:
    met = {(structure.domain, structure.op_type) for structure in STRUCTURES}
    here = {key for key in operators() if key[0] == "com.microsoft"}
    # Written by nothing any more; tested in tests/frontend/ops.
    old = {("com.microsoft", name) for name in ("FusedMatMulActivation", "GemmFastGelu", "TransposeMatMul")}
    assert here - met == old
