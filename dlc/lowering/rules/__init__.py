"""Lowering rules, one file a family: each writes the kernel of one operator in the kernel IR."""
