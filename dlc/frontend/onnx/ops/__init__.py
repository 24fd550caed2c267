"""Importers of ONNX operators, one file a family; each registers itself with dlc.frontend.onnx.registry."""
