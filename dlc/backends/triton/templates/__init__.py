"""Algorithms that turn a kernel into Triton functions, one a file."""
