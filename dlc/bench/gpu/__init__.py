"""The benchmark for machines with a GPU: dlc beside torch, eager and compiled; see docs/gpu.md."""
