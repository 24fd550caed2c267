"""The ONNX frontend: from a model file to a graph.

`import_model` reads and imports, `check` lists what keeps a model from being imported. `reader`, `wire`,
`tensors` and `external` turn untrusted bytes into messages and arrays; `signature` declares inputs;
`graph_importer` drives the importers of `ops`, one file a family of operators, through `registry` and
`context`; `functions` inlines; `contents` follows arithmetic on shapes symbolically; `settling` cleans up.
"""
