"""Models on GPUs: from generated functions to packages, and runs of them."""
