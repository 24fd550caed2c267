"""Operators of the graph IR, one file a family. Each is defined once: see dlc.ir.operator."""
