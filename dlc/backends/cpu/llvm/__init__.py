"""The parts of the function builder, one group of operations a file.

`emitter` keeps lines, scopes and shared values; `integer`, `floats`, `vectors`, `memory` and `control` add
operations as mixins; :class:`dlc.backends.cpu.builder.FunctionBuilder` joins them.
"""
