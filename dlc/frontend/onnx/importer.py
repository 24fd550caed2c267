"""From an ONNX model to a graph, with its identity and what it says about itself.

Everything that a model says is checked or recomputed: types and shapes come from our own inference, never
from `value_info`; declared outputs are compared with it. What dlc cannot compile is collected over the whole
model and reported at once.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlc.errors import (
    Error,
    Finding,
    InputError,
    LimitError,
    ModelError,
    ResourceError,
    UnsupportedError,
    printable,
)
from dlc.frontend.onnx.contents import Contents
from dlc.frontend.onnx.external import ExternalData
from dlc.frontend.onnx.functions import FunctionTable, opset_imports
from dlc.frontend.onnx.graph_importer import GraphImporter as GraphImporter, check_opset
from dlc.frontend.onnx.reader import Source, SourceModel, read_model
from dlc.frontend.onnx.scope import Scope
from dlc.frontend.onnx.settling import settle
from dlc.frontend.onnx.signature import (
    InputSpec,
    ShapeSpec,
    Signature,
    check_names,
    check_output,
    declared_value,
    forced_extents,
    squeezed_extents,
)
from dlc.frontend.onnx.tensors import TensorReader
from dlc.ir.graph import Graph
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself and about how it was imported; all of it is data, none is trusted.

    `defaults` are inputs with an initializer of the same name (the style before IR version 4): they became
    constants. `dim_names` gives the model's name of each symbol.
    """

    ir_version: int
    producer: str
    producer_version: str
    domain: str
    model_version: int
    description: str
    properties: Mapping[str, str]
    defaults: tuple[str, ...]
    dim_names: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """An imported model: its graph, whose inputs and outputs stand in ONNX's order, and its identity.

    `outputs` are the ONNX names of `graph.outputs`. `opsets` maps domains ("" is the standard one) to
    versions. `hints` maps symbols to (minimum, typical, maximum). `sha256` is that of the file without
    external data; `has_external_data`: it does not decide the weights.
    """

    graph: Graph
    name: str
    opsets: Mapping[str, int]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    sha256: str
    metadata: ModelMetadata
    hints: Mapping[str, tuple[int, int, int]]
    has_external_data: bool


def import_model(
    source: Source,
    *,
    shapes: Mapping[str, ShapeSpec] | None = None,
    limits: Limits | None = None,
    external_data_dir: str | os.PathLike[str] | None = None,
    outputs: Sequence[str] = (),
) -> ImportedModel:
    """Import `source` (path, bytes, binary file or ModelProto) within `limits`.

    `outputs` names values of the main graph that become outputs after the model's own.

    `shapes` is that of `dlc.compile`; `external_data_dir` a further folder in which external data may lie. A
    symbolic dim for which the guards of the graph leave one extent only (a state of batch 1, say) gets that
    extent.

    Raises ModelError for an invalid model, UnsupportedError with all findings for one that dlc cannot
    compile, InputError for a source that cannot be read or `shapes` that fit nothing, LimitError,
    ResourceError.
    """
    limits = limits or Limits()
    try:
        model = read_model(source, limits)
        external = ExternalData(
            model.folder, Path(external_data_dir) if external_data_dir is not None else None
        )
        attempt = _Attempt(model, external, shapes or {}, limits)
        fixed: dict[str, int] = {}
        while new := attempt.forced_extents():
            fixed |= new
            attempt = _Attempt(model, external, {**(shapes or {}), **fixed}, limits)
        return attempt.result(outputs)
    except UnicodeDecodeError:
        raise ModelError("a name in the model is not UTF-8", code="model/protobuf") from None
    except RecursionError:
        raise LimitError("the model is nested too deeply", hint="flatten its subgraphs") from None
    except MemoryError as error:
        if isinstance(error, Error):
            raise
        raise ResourceError("there is not enough memory to import the model") from None


def check(
    source: Source,
    *,
    shapes: Mapping[str, ShapeSpec] | None = None,
    limits: Limits | None = None,
    external_data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Finding, ...]:
    """What keeps a model from being imported; empty when nothing does. Raises like `import_model`."""
    try:
        import_model(source, shapes=shapes, limits=limits, external_data_dir=external_data_dir)
    except UnsupportedError as error:
        return error.findings
    return ()


class _Attempt:
    """One pass over a parsed model with certain `shapes`."""

    def __init__(
        self, model: SourceModel, external: ExternalData, shapes: Mapping[str, ShapeSpec], limits: Limits
    ) -> None:
        proto = self.proto = model.proto
        self.model = model
        self.external = external
        self.opsets = opset_imports(proto.opset_import, proto.ir_version, "the model")
        check_opset(self.opsets)
        functions = FunctionTable(proto.functions, limits)
        functions.check_inlined_size(proto.graph.node)
        self.graph = Graph()
        self.signature = Signature(self.graph, shapes, limits)
        self.contents = Contents(self.graph, self.signature.fresh)
        self.importer = GraphImporter(
            self.graph, TensorReader(external, limits), functions, self.contents, limits
        )
        self.scope = Scope(self.opsets)
        initialized = {item.name for item in proto.graph.initializer}
        initialized |= {item.values.name for item in proto.graph.sparse_initializer}
        for value in self.signature.declare(
            [info for info in proto.graph.input if info.name not in initialized]
        ):
            self.importer.define_input(value, self.scope)
        self.importer.define_initializers(proto.graph, self.scope)
        self.importer.import_nodes(proto.graph.node, self.scope)

    def forced_extents(self) -> dict[str, int]:
        """Named dims of inputs that the model leaves no choice about."""
        outputs = [
            (info, self.scope.find(info.name))
            for info in self.proto.graph.output
            if self.scope.defines(info.name)
        ]
        squeezed = squeezed_extents(self.graph.guards, self.signature, outputs)
        return squeezed | forced_extents(self.graph, self.signature)

    def result(self, extra: Sequence[str]) -> ImportedModel:
        """The finished model, with the values named in `extra` as outputs too.

        Raises UnsupportedError with all findings, ModelError for outputs of another type than declared.
        """
        names = [info.name for info in self.proto.graph.output]
        check_names(names, "output")
        for name in extra:
            if not self.scope.defines(name):
                raise InputError(f"the model has no value '{printable(name)}'", code="input/name")
        names += [name for name in dict.fromkeys(extra) if name not in names]
        outputs = self.importer.read_outputs(names, self.scope)
        findings = self.importer.findings
        if outputs is None or findings:
            raise UnsupportedError(
                f"dlc does not compile {len(findings)} thing{'s' if len(findings) > 1 else ''} in the model",
                findings=findings,
            )
        for index, (info, output) in enumerate(zip(self.proto.graph.output, outputs)):
            outputs[index] = declared_value(self.graph, output, info.type)
            check_output(info.name, outputs[index], info.type)
        for name, output in zip(names, outputs, strict=True):
            self.graph.add_output(output, name)
        settle(self.graph, self.contents)
        return ImportedModel(
            self.graph,
            self.model.name,
            self.opsets,
            tuple(self.signature.inputs),
            tuple(names),
            self.model.sha256,
            _metadata(self.proto, self.signature),
            self.signature.hints,
            self.external.used,
        )


def _metadata(proto: ModelProto, signature: Signature) -> ModelMetadata:
    fed = {spec.name for spec in signature.inputs}
    return ModelMetadata(
        proto.ir_version,
        proto.producer_name,
        proto.producer_version,
        proto.domain,
        proto.model_version,
        proto.doc_string,
        {entry.key: entry.value for entry in proto.metadata_props},
        tuple(info.name for info in proto.graph.input if info.name not in fed),
        {str(dim): name for name, dim in signature.dims.items() if not isinstance(dim, int)},
    )
