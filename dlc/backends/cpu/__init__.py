"""The CPU backend: kernels to LLVM text to object code, through a structured builder of its own."""
