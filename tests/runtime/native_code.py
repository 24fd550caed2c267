"""Hand-written kernels and drivers for the tests of the runtime, and helpers to compile and load them."""

from __future__ import annotations

import ctypes
from functools import cache

import llvmlite.binding as llvm

from dlc.runtime.abi import Context
from dlc.runtime.library import Pool, runtime
from dlc.runtime.loader import JitLibrary

KERNELS = """
declare i64 @gettid()
declare i32 @usleep(i32)
declare void @dlc_launch(ptr, ptr, ptr, i64)
declare i64 @dlc_reserve_scratch(ptr, i64)
declare void @dlc_report_fault(ptr, i64, i64)
declare i64 @dlc_host_step(ptr, i64, ptr, ptr)

; args: source, destination, count, n.   destination[c] = source[(c + 1) % n] + 1, and count[c] += 1
define void @shift_add(ptr %args, i64 %chunk, ptr %scratch) {
  %source = load ptr, ptr %args
  %destination.p = getelementptr i64, ptr %args, i64 1
  %destination = load ptr, ptr %destination.p
  %count.p = getelementptr i64, ptr %args, i64 2
  %count = load ptr, ptr %count.p
  %n.p = getelementptr i64, ptr %args, i64 3
  %n = load i64, ptr %n.p
  %next = add i64 %chunk, 1
  %wrapped = urem i64 %next, %n
  %from = getelementptr i64, ptr %source, i64 %wrapped
  %value = load i64, ptr %from
  %sum = add i64 %value, 1
  %to = getelementptr i64, ptr %destination, i64 %chunk
  store i64 %sum, ptr %to
  %counter = getelementptr i64, ptr %count, i64 %chunk
  %before = load i64, ptr %counter
  %after = add i64 %before, 1
  store i64 %after, ptr %counter
  ret void
}

; Driver: arena = kernels to run, n, args of even kernels [4], args of odd kernels [4].
define i64 @chain(ptr %context, ptr %symbols, ptr %in, ptr %outputs, ptr %constants, ptr %arena) {
entry:
  %kernels = load i64, ptr %arena
  %n.p = getelementptr i64, ptr %arena, i64 1
  %n = load i64, ptr %n.p
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %run ]
  %more = icmp slt i64 %k, %kernels
  br i1 %more, label %run, label %out
run:
  %parity = and i64 %k, 1
  %offset = mul i64 %parity, 4
  %slot = add i64 %offset, 2
  %args = getelementptr i64, ptr %arena, i64 %slot
  call void @dlc_launch(ptr %context, ptr @shift_add, ptr %args, i64 %n)
  %k.next = add i64 %k, 1
  br label %next
out:
  ret i64 0
}

; args: thread ids, microseconds.   Records which thread ran the chunk, then sleeps.
define void @record_thread(ptr %args, i64 %chunk, ptr %scratch) {
  %threads = load ptr, ptr %args
  %pause.p = getelementptr i64, ptr %args, i64 1
  %pause = load i32, ptr %pause.p
  %thread = call i64 @gettid()
  %to = getelementptr i64, ptr %threads, i64 %chunk
  store i64 %thread, ptr %to
  %slept = call i32 @usleep(i32 %pause)
  ret void
}

; args: words of scratch, errors, addresses.   Fills the block with the chunk, sleeps, counts changed words.
define void @fill_scratch(ptr %args, i64 %chunk, ptr %scratch) {
entry:
  %words = load i64, ptr %args
  %errors.p = getelementptr i64, ptr %args, i64 1
  %errors = load ptr, ptr %errors.p
  %addresses.p = getelementptr i64, ptr %args, i64 2
  %addresses = load ptr, ptr %addresses.p
  %address = getelementptr i64, ptr %addresses, i64 %chunk
  store ptr %scratch, ptr %address
  br label %fill
fill:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fill ]
  %to = getelementptr i64, ptr %scratch, i64 %i
  store i64 %chunk, ptr %to
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %words
  br i1 %more, label %fill, label %sleep
sleep:
  %slept = call i32 @usleep(i32 100)
  br label %check
check:
  %j = phi i64 [ 0, %sleep ], [ %j.next, %check ]
  %from = getelementptr i64, ptr %scratch, i64 %j
  %value = load i64, ptr %from
  %differs = icmp ne i64 %value, %chunk
  %one = zext i1 %differs to i64
  %old = atomicrmw add ptr %errors, i64 %one monotonic
  %j.next = add i64 %j, 1
  %again = icmp ult i64 %j.next, %words
  br i1 %again, label %check, label %out
out:
  ret void
}

; args: fault word, kernel, first bad chunk.   Reports a fault in each chunk from the first bad one on.
define void @bad_index(ptr %args, i64 %chunk, ptr %scratch) {
  %fault = load ptr, ptr %args
  %kernel.p = getelementptr i64, ptr %args, i64 1
  %kernel = load i64, ptr %kernel.p
  %first.p = getelementptr i64, ptr %args, i64 2
  %first = load i64, ptr %first.p
  %bad = icmp sge i64 %chunk, %first
  br i1 %bad, label %report, label %out
report:
  call void @dlc_report_fault(ptr %fault, i64 %kernel, i64 %chunk)
  br label %out
out:
  ret void
}

; args: results.   results[c] = 1 if 2^-1074 * 1.0 is kept as a denormal and 1 + 2^-53 rounds to even.
define void @float_mode(ptr %args, i64 %chunk, ptr %scratch) {
  %results = load ptr, ptr %args
  %tiny.p = getelementptr i64, ptr %args, i64 1
  %tiny = load volatile double, ptr %tiny.p
  %kept = fadd double %tiny, %tiny
  %is.kept = fcmp une double %kept, 0.0
  %half.p = getelementptr i64, ptr %args, i64 2
  %half = load volatile double, ptr %half.p
  %rounded = fadd double %half, 1.0
  %is.even = fcmp oeq double %rounded, 1.0
  %both = and i1 %is.kept, %is.even
  %value = zext i1 %both to i64
  %to = getelementptr i64, ptr %results, i64 %chunk
  store i64 %value, ptr %to
  ret void
}

; float_mode, args[3] = thread ids: which are recorded, too; then sleeps, so that all threads take part.
define void @float_mode_slow(ptr %args, i64 %chunk, ptr %scratch) {
  call void @float_mode(ptr %args, i64 %chunk, ptr %scratch)
  %threads.p = getelementptr i64, ptr %args, i64 3
  %threads = load ptr, ptr %threads.p
  %thread = call i64 @gettid()
  %to = getelementptr i64, ptr %threads, i64 %chunk
  store i64 %thread, ptr %to
  %slept = call i32 @usleep(i32 300)
  ret void
}

; Driver: launches float_mode with arena = args on symbols[0] chunks.
define i64 @check_mode(ptr %context, ptr %symbols, ptr %in, ptr %outputs, ptr %constants, ptr %arena) {
  %n = load i64, ptr %symbols
  call void @dlc_launch(ptr %context, ptr @float_mode, ptr %arena, i64 %n)
  ret i64 0
}

; args: counter, cancel word, value at which to set it.
define void @count_and_cancel(ptr %args, i64 %chunk, ptr %scratch) {
  %counter = load ptr, ptr %args
  %old = atomicrmw add ptr %counter, i64 1 monotonic
  %word.p = getelementptr i64, ptr %args, i64 1
  %word = load ptr, ptr %word.p
  %limit.p = getelementptr i64, ptr %args, i64 2
  %limit = load i64, ptr %limit.p
  %reached = icmp eq i64 %old, %limit
  %flag = zext i1 %reached to i64
  %set = atomicrmw or ptr %word, i64 %flag monotonic
  ret void
}

; Driver: symbols[0] launches of count_and_cancel with one chunk each, arena = args.
define i64 @count_launches(ptr %context, ptr %symbols, ptr %in, ptr %outputs, ptr %constants, ptr %arena) {
entry:
  %n = load i64, ptr %symbols
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %run ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %run, label %out
run:
  call void @dlc_launch(ptr %context, ptr @count_and_cancel, ptr %arena, i64 1)
  %k.next = add i64 %k, 1
  br label %next
out:
  ret i64 0
}

; Driver: runs host step 7 on the outputs, then one launch of count_and_cancel.
define i64 @ask_host(ptr %context, ptr %symbols, ptr %in, ptr %outputs, ptr %constants, ptr %arena) {
  %status = call i64 @dlc_host_step(ptr %context, i64 7, ptr %outputs, ptr %symbols)
  call void @dlc_launch(ptr %context, ptr @count_and_cancel, ptr %arena, i64 1)
  ret i64 %status
}

; Driver: 64 chunks of record_thread for the context inputs[0], and at once 24 for inputs[1]; arena = args.
define i64 @two_teams(ptr %context, ptr %symbols, ptr %inputs, ptr %outputs, ptr %constants, ptr %arena) {
  %first = load ptr, ptr %inputs
  call void @dlc_launch(ptr %first, ptr @record_thread, ptr %arena, i64 64)
  %second.p = getelementptr ptr, ptr %inputs, i64 1
  %second = load ptr, ptr %second.p
  %args = getelementptr i64, ptr %arena, i64 2
  call void @dlc_launch(ptr %second, ptr @record_thread, ptr %args, i64 24)
  ret i64 0
}

; Driver: reserves symbols[0] bytes of scratch.
define i64 @reserve(ptr %context, ptr %symbols, ptr %in, ptr %outputs, ptr %constants, ptr %arena) {
  %bytes = load i64, ptr %symbols
  %status = call i64 @dlc_reserve_scratch(ptr %context, i64 %bytes)
  ret i64 %status
}
"""


def compile_ir(text: str, triple: str | None = None) -> bytes:
    """An object for this machine, or for `triple`."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple or llvm.get_process_triple()).create_target_machine(
        opt=1, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    code: bytes = machine.emit_object(module)
    return code


@cache
def kernels() -> JitLibrary:
    """KERNELS, linked with the runtime."""
    return JitLibrary([compile_ir(KERNELS)], runtime().symbols)


def new_context(threads: int, pool: Pool | None = None) -> Context:
    """A context that uses `pool`, by default the one of the process."""
    context = Context()
    context.pool = (pool or runtime().pool).address
    context.threads = threads
    context.fault = -1
    return context


def launch(context: Context, kernel: str, args: ctypes.Array[ctypes.c_int64], chunks: int) -> None:
    """dlc_launch as a driver would call it."""
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        runtime().symbols["dlc_launch"]
    )
    function(ctypes.addressof(context), kernels().address(kernel), ctypes.addressof(args), chunks)


def words(*values: int) -> ctypes.Array[ctypes.c_int64]:
    """An argument block of 8-byte slots."""
    return (ctypes.c_int64 * len(values))(*values)
