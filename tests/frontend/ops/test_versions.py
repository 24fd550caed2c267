"""The importers of some families exist at exactly the opsets at which the standard has the operators."""

from __future__ import annotations

import onnx
import pytest

from dlc.frontend.onnx import registry

OLDEST, NEWEST = 1, 28
OPERATORS = """
Abs Neg Sign Floor Ceil Round Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh
Atanh Erf Tanh Sigmoid Relu Softplus Softsign Not BitwiseNot IsNaN IsInf Gelu HardSwish Mish Elu Selu
Celu LeakyRelu HardSigmoid ThresholdedRelu Swish SwiGLU Shrink PRelu Clip Add Sub Mul Div Pow Mod
BitShift BitwiseAnd BitwiseOr BitwiseXor And Or Xor Max Min Sum Mean Equal Less LessOrEqual Greater
GreaterOrEqual Where Cast CastLike BitCast Dropout Identity ReduceSum ReduceMean ReduceMax ReduceMin
ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax ArgMin CumSum CumProd
TopK GlobalAveragePool GlobalMaxPool GlobalLpPool Softmax LogSoftmax Hardmax LayerNormalization
RMSNormalization BatchNormalization InstanceNormalization GroupNormalization LpNormalization
MeanVarianceNormalization LRN QuantizeLinear DequantizeLinear DynamicQuantizeLinear RandomNormal
RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial NegativeLogLikelihoodLoss
SoftmaxCrossEntropyLoss
""".split()

#: Operators that onnxruntime's optimizer writes into models of opsets in which the standard lacks them.
EARLIER = {"LayerNormalization"}


def exists(op_type: str, opset: int) -> bool:
    """Whether the standard has the operator at `opset`."""
    # A deprecated version (GroupNormalization-18) still has its meaning.
    try:
        onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    return True


@pytest.mark.parametrize("op_type", OPERATORS)
def test_an_importer_at_every_opset_of_the_standard(op_type: str) -> None:
    opsets = range(OLDEST, min(NEWEST, onnx.defs.onnx_opset_version()) + 1)
    wanted = [opset for opset in opsets if exists(op_type, opset)]
    assert wanted
    found = [opset for opset in opsets if registry.find("", op_type, opset)]
    assert found == ([*opsets] if op_type in EARLIER else wanted)
