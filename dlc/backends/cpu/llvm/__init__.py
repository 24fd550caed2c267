"""The parts of the function builder, one group of operations a file.

`emitter` keeps lines, scopes and shared values, `folding` simplifies integer arithmetic; `integer`,
`control`, `memory`, `floats`, `vectors` and `dots` add operations, each class to the one before;
:class:`dlc.backends.cpu.builder.FunctionBuilder` ends the line.
"""
