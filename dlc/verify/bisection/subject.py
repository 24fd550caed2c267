"""What is bisected: a model that can be imported again and again, and the inputs on which it is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import InputError, UnsupportedError, printable
from dlc.ir.types import is_object
from dlc.options import Options
from dlc.verify.bisection.allowance import Allowance, allowance
from dlc.verify.compare import Array

if TYPE_CHECKING:
    from dlc.frontend.onnx.importer import ImportedModel
    from dlc.ir.graph import Graph
    from dlc.lowering.program import Program
    from dlc.passes.manager import Pipeline


@dataclass(frozen=True)
class Subject:
    """A model, the options it is compiled with, inputs by ONNX name and the passes to leave out."""

    source: Any
    options: Options
    inputs: Mapping[str, Any]
    skip: tuple[str, ...] = ()

    def import_model(self) -> ImportedModel:
        """A fresh import, the same each time.

        UnsupportedError where results are random, or an input or output is no tensor of numbers.
        """
        from dlc.frontend.onnx.importer import import_model

        options = self.options
        model = import_model(
            self.source,
            shapes=options.shapes,
            limits=options.limits,
            external_data_dir=options.external_data_dir,
            outputs=options.outputs,
        )
        for value in (*model.graph.inputs, *model.graph.outputs):
            if is_object(value.type):
                raise UnsupportedError(
                    f"'{printable(value.name)}' is {value.type}",
                    hint="only models whose inputs and outputs are tensors of numbers can be bisected",
                )
        for node in model.graph.nodes:
            if not node.op.repeatable:
                raise UnsupportedError(
                    f"the results of '{printable(', '.join(node.origin))}' are random",
                    hint="only models whose results follow from their inputs can be bisected",
                )
        return model

    def pipeline(self) -> Pipeline:
        """The passes that are run."""
        from dlc.passes.pipeline import default_pipeline

        options = self.options
        return default_pipeline(options.optimize, options.limits, options.precision).without(*self.skip)

    def feeds(self, model: ImportedModel) -> dict[str, Array]:
        """The inputs by the names of the graph's values; InputError for one that is missing."""
        feeds = {}
        for spec, value in zip(model.inputs, model.graph.inputs, strict=True):
            if spec.name not in self.inputs:
                raise InputError(f"missing input: {printable(spec.name)}", code="input/name")
            feeds[value.name] = np.asarray(self.inputs[spec.name])
        return feeds


@dataclass(frozen=True)
class Prepared:
    """A lowered model: its graph after all passes, the inputs by value name, and the program.

    The graph has been through `lower`, which may have added nodes that copy outputs; `allowance` is that of
    the graph as imported.
    """

    model: ImportedModel
    feeds: Mapping[str, Array]
    program: Program
    allowance: Allowance


def prepare(subject: Subject) -> Prepared:
    """Import, transform and lower."""
    from dlc.lowering.lower import lower

    model = subject.import_model()
    allowed = allowance(model.graph, subject.options.precision)
    subject.pipeline().run(model.graph)
    return Prepared(model, subject.feeds(model), lower(model.graph), allowed)


@dataclass
class Counted:
    """Counts the comparisons of a level."""

    count: int = 0
    notes: list[str] = field(default_factory=list)


def run_graph(graph: Graph, feeds: Mapping[str, Array], keep: Iterable[str] = ()) -> dict[str, Array]:
    """The outputs and the values named in `keep` under the graph evaluator, without NumPy's warnings."""
    from dlc.ir.evaluate import evaluate

    with np.errstate(all="ignore"):
        return evaluate(graph, feeds, keep)
