"""The passes that dlc.compile runs, by optimization level."""
from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.limits import Limits
from dlc.passes.canonicalize import Canonicalize
from dlc.passes.channels_last import ChannelsLast
from dlc.passes.constant_folding import ConstantFolding
from dlc.passes.cse import CommonSubexpressions
from dlc.passes.dead_code import DeadCode
from dlc.passes.fold_batch_norm import FoldBatchNorm
from dlc.passes.fold_bias import FoldBias
from dlc.passes.fold_pad import FoldPad
from dlc.passes.fold_scale import FoldScale
from dlc.passes.hoist_invariants import HoistInvariants
from dlc.passes.layout import AssignLayouts
from dlc.passes.manager import Pipeline
from dlc.passes.pass_base import Pass
from dlc.passes.precision import ConvertPrecision
from dlc.passes.raise_activation import RaiseActivations
from dlc.passes.raise_attention import RaiseAttention
from dlc.passes.raise_gelu import RaiseGelu
from dlc.passes.raise_layer_norm import RaiseLayerNorm
from dlc.passes.raise_quantized import RaiseQuantized
from dlc.passes.raise_rms_norm import RaiseRMSNorm
from dlc.passes.raise_softmax import RaiseSoftmax
from dlc.passes.simplify_regions import SimplifyRegions

#: The element types that the option `precision` stands for. Of "tf32" the kernels' products are another kind,
#: not their values.
PRECISIONS = {"fp16": DType.F16, "bf16": DType.BF16, "fp32": DType.F32}


def default_pipeline(level: int = 2, limits: Limits | None = None, precision: str = "model") -> Pipeline:
    """The pipeline for CPUs, of optimization level 0 (as imported), 1 (bitwise the same results) or 2 and 3
    (all). A `precision` other than "model" is carried out at every level.
    """
    layouts = (AssignLayouts(),) if level else ()
    of_level = _of_level(level, limits or Limits(), quantized=(RaiseQuantized(),))
    return Pipeline((*of_level, *_conversion(precision, level), *layouts))


def gpu_pipeline(level: int = 2, limits: Limits | None = None, precision: str = "model") -> Pipeline:
    """The pipeline for GPUs, as `default_pipeline` is for CPUs."""
    layouts = (ChannelsLast(),) if level else ()
    return Pipeline((*_of_level(level, limits or Limits()), *_conversion(precision, level), *layouts))


def _of_level(level: int, limits: Limits, quantized: tuple[Pass, ...] = ()) -> tuple[Pass, ...]:
    """What is done whatever the target, and passes on quantized operators of a target with kernels for these.

    Sums of integers may then be held in floats, which later passes must not scale: they come after `algebra`.
    """
    folding = ConstantFolding(limits)
    if level == 0:
        return ()
    tidy = (DeadCode(), folding, SimplifyRegions(), CommonSubexpressions(), Canonicalize(), FoldPad())
    if level == 1:
        return *tidy, folding, HoistInvariants(), DeadCode()
    again = (
        SimplifyRegions(), Canonicalize(), folding, CommonSubexpressions(), HoistInvariants(), DeadCode(),
    )
    return *tidy, *raising(), *algebra(), *quantized, *again


def _conversion(precision: str, level: int) -> tuple[Pass, ...]:
    """The model's numbers in another type. Constants are not folded after it: weights stay narrow."""
    if precision not in PRECISIONS:
        return ()
    convert = ConvertPrecision(PRECISIONS[precision])
    tidy = (Canonicalize(), CommonSubexpressions(), HoistInvariants(), DeadCode())
    return (convert, *tidy) if level else (convert,)


def raising() -> tuple[Pass, ...]:
    """Composite operators from the chains that exporters write for them."""
    return RaiseLayerNorm(), RaiseRMSNorm(), RaiseGelu(), RaiseActivations(), RaiseSoftmax(), RaiseAttention()


def algebra() -> tuple[Pass, ...]:
    """Constants into weights."""
    return Canonicalize(), FoldBatchNorm(), FoldScale(), FoldBias()
