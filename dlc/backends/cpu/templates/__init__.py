"""Kernel templates of the CPU backend: algorithms for kernels of a certain form, one file each."""
