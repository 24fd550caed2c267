"""The GPU backend: kernels printed as Triton source, compiled to binaries, launched through the driver."""
