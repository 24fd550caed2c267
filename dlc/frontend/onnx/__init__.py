"""The ONNX frontend: from a model file to a graph.

`import_model` reads and imports, `check` lists what keeps a model from being imported. `reader`, `wire`,
`tensors` and `external` turn untrusted bytes into messages and arrays; `signature` declares inputs and checks
outputs; `graph_importer` drives the importers of `ops`, one file a family of operators, through `registry`
and `context`; `functions` and `schema` know about function bodies and the form of nodes; `contents` follows
arithmetic on shapes symbolically; `settling` cleans up.
"""

from dlc.frontend.onnx.importer import (
    ImportedModel as ImportedModel,
    ModelMetadata as ModelMetadata,
    check as check,
    import_model as import_model,
)
