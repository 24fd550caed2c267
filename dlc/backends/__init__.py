"""Code generators: each backend turns kernels into machine code for one family of targets."""
