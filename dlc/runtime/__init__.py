"""Runs compiled models: packages, loading of code, memory, the thread pool and the call path.

Nothing here needs the compiler: a package runs without onnx and networkx. The native part is LLVM IR in
``native/``, whose ``dlc.h`` documents the interface between models, the runtime and callers.
"""
