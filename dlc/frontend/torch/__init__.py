"""The PyTorch frontend: modules and FX graphs become ONNX models through torch.onnx's exporter (dynamo).

`export` runs the exporter and says in dlc's terms what it cannot export; `modules` is for whole modules, with
their structured arguments and results; `graphs` for the graphs that torch.compile hands to a backend. Nothing
here imports torch before it is used.
"""
