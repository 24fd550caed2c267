"""The passes that dlc.compile runs, by optimization level."""
from __future__ import annotations

from dlc.limits import Limits
from dlc.passes.canonicalize import Canonicalize
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
from dlc.passes.raise_activation import RaiseActivations
from dlc.passes.raise_attention import RaiseAttention
from dlc.passes.raise_gelu import RaiseGelu
from dlc.passes.raise_layer_norm import RaiseLayerNorm
from dlc.passes.raise_rms_norm import RaiseRMSNorm
from dlc.passes.raise_softmax import RaiseSoftmax
from dlc.passes.simplify_regions import SimplifyRegions


def default_pipeline(level: int = 2, limits: Limits | None = None) -> Pipeline:
    """The pipeline of optimization level 0 (as imported), 1 (bitwise the same results) or 2 and 3 (all)."""
    folding = ConstantFolding(limits or Limits())
    if level == 0:
        return Pipeline(())
    tidy = (DeadCode(), folding, SimplifyRegions(), CommonSubexpressions(), Canonicalize(), FoldPad())
    if level == 1:
        return Pipeline((*tidy, folding, HoistInvariants(), DeadCode(), AssignLayouts()))
    again = (
        SimplifyRegions(), Canonicalize(), folding, CommonSubexpressions(), HoistInvariants(), DeadCode(),
    )
    return Pipeline((*tidy, *raising(), *algebra(), *again, AssignLayouts()))


def raising() -> tuple[Pass, ...]:
    """Composite operators from the chains that exporters write for them."""
    return RaiseLayerNorm(), RaiseRMSNorm(), RaiseGelu(), RaiseActivations(), RaiseSoftmax(), RaiseAttention()


def algebra() -> tuple[Pass, ...]:
    """Constants into weights."""
    return Canonicalize(), FoldBatchNorm(), FoldScale(), FoldBias()
