; Contexts and calls: what a driver, a kernel and a caller ask of the runtime besides the pool (see dlc.h).

; --- Memory ---------------------------------------------------------------------------------------------------

; `bytes` of zeroed memory from the system, aligned to 4096, or null.
define internal ptr @map_block(i64 %bytes) noinline {
entry:
  ; 3 = PROT_READ | PROT_WRITE, 34 = MAP_PRIVATE | MAP_ANONYMOUS
  %block = call ptr @mmap(ptr null, i64 %bytes, i32 3, i32 34, i32 -1, i64 0)
  %failed = icmp eq ptr %block, inttoptr (i64 -1 to ptr)
  %result = select i1 %failed, ptr null, ptr %block
  ret ptr %result
}

; Replaces the block in *block.p by one of at least `wanted` bytes, unless it is that large; contents are lost.
; 0, or 2 (DLC_NO_MEMORY), which leaves the old block.
define internal i64 @grow_block(ptr %block.p, ptr %bytes.p, i64 %wanted) noinline {
entry:
  %bytes = load i64, ptr %bytes.p
  %enough = icmp ule i64 %wanted, %bytes
  br i1 %enough, label %done, label %check
check:
  ; Beyond this, rounding up could wrap around; no machine has so much.
  %absurd = icmp ugt i64 %wanted, 1152921504606846976
  br i1 %absurd, label %failed, label %map
map:
  %above = add i64 %wanted, 4095
  %rounded = and i64 %above, -4096
  %block = call ptr @map_block(i64 %rounded)
  %is.null = icmp eq ptr %block, null
  br i1 %is.null, label %failed, label %replace
replace:
  %advised = call i32 @madvise(ptr %block, i64 %rounded, i32 14)                  ; MADV_HUGEPAGE, if large enough
  call void @free_block(ptr %block.p, ptr %bytes.p)
  store ptr %block, ptr %block.p
  store i64 %rounded, ptr %bytes.p
  br label %done
done:
  ret i64 0
failed:
  ret i64 2
}

define internal void @free_block(ptr %block.p, ptr %bytes.p) noinline {
entry:
  %bytes = load i64, ptr %bytes.p
  %is.empty = icmp eq i64 %bytes, 0
  br i1 %is.empty, label %out, label %unmap
unmap:
  %block = load ptr, ptr %block.p
  %ignored = call i32 @munmap(ptr %block, i64 %bytes)
  store ptr null, ptr %block.p
  store i64 0, ptr %bytes.p
  br label %out
out:
  ret void
}

; The workers' blocks grow at the next launch (@team), when none of them can be in use. Sizes that would depend on
; data which a stopped call has not computed are not looked at.
define i64 @dlc_reserve_scratch(ptr %context, i64 %bytes) {
entry:
  %stopped = call i1 @is_stopped(ptr %context)
  br i1 %stopped, label %skip, label %grow
skip:
  %old.status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  %old.status = load i64, ptr %old.status.p
  ret i64 %old.status
grow:
  %scratch.p = getelementptr %Context, ptr %context, i64 0, i32 2
  %bytes.p = getelementptr %Context, ptr %context, i64 0, i32 3
  %status = call i64 @grow_block(ptr %scratch.p, ptr %bytes.p, i64 %bytes)
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %store, label %out
store:
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  store i64 %status, ptr %status.p
  br label %out
out:
  ret i64 %status
}

; Growing at least doubles, so that a loop which appends copies each byte a bounded number of times; the system
; moves pages rather than bytes.
define ptr @dlc_grow(ptr %context, i64 %index, i64 %bytes) {
entry:
  %stopped = call i1 @is_stopped(ptr %context)
  br i1 %stopped, label %failed, label %find
find:
  %storages.p = getelementptr %Context, ptr %context, i64 0, i32 14
  %storages = load ptr, ptr %storages.p
  %address.p = getelementptr %Storage, ptr %storages, i64 %index, i32 0
  %bytes.p = getelementptr %Storage, ptr %storages, i64 %index, i32 1
  %old.bytes = load i64, ptr %bytes.p
  %old = load ptr, ptr %address.p
  %enough = icmp ule i64 %bytes, %old.bytes
  br i1 %enough, label %keep, label %check
keep:
  ret ptr %old
check:
  %limit.p = getelementptr %Context, ptr %context, i64 0, i32 16
  %limit = load i64, ptr %limit.p
  %is.limited = icmp ne i64 %limit, 0
  %most = select i1 %is.limited, i64 %limit, i64 1152921504606846976
  %too.large = icmp ugt i64 %bytes, %most
  br i1 %too.large, label %over, label %size
over:
  %limit.status = select i1 %is.limited, i64 5, i64 2                   ; DLC_LIMIT or DLC_NO_MEMORY
  br label %fail
size:
  %doubled = shl i64 %old.bytes, 1
  %capped = call i64 @llvm.umin.i64(i64 %doubled, i64 %most)
  %wanted = call i64 @llvm.umax.i64(i64 %capped, i64 %bytes)
  %above = add i64 %wanted, 4095
  %rounded = and i64 %above, -4096
  %is.new = icmp eq i64 %old.bytes, 0
  br i1 %is.new, label %map, label %extend
map:
  %mapped = call ptr @map_block(i64 %rounded)
  br label %test
extend:
  %extended = call ptr (ptr, i64, i64, i32, ...) @mremap(ptr %old, i64 %old.bytes, i64 %rounded, i32 1)    ; MAYMOVE
  %moved = icmp ne ptr %extended, inttoptr (i64 -1 to ptr)
  %extended.or.null = select i1 %moved, ptr %extended, ptr null
  br label %test
test:
  %new = phi ptr [ %mapped, %map ], [ %extended.or.null, %extend ]
  %is.null = icmp eq ptr %new, null
  br i1 %is.null, label %fail, label %done
done:
  store ptr %new, ptr %address.p
  store i64 %rounded, ptr %bytes.p
  ret ptr %new
fail:
  %status = phi i64 [ %limit.status, %over ], [ 2, %test ]
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  store i64 %status, ptr %status.p
  br label %failed
failed:
  ret ptr null
}

define void @dlc_release_memory(ptr %context) {
entry:
  %scratch.p = getelementptr %Context, ptr %context, i64 0, i32 2
  %bytes.p = getelementptr %Context, ptr %context, i64 0, i32 3
  call void @free_block(ptr %scratch.p, ptr %bytes.p)
  %storages.p = getelementptr %Context, ptr %context, i64 0, i32 14
  %storages = load ptr, ptr %storages.p
  %count.p = getelementptr %Context, ptr %context, i64 0, i32 15
  %count = load i64, ptr %count.p
  br label %next
next:
  %index = phi i64 [ 0, %entry ], [ %index.next, %free ]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %free, label %out
free:
  %address.p = getelementptr %Storage, ptr %storages, i64 %index, i32 0
  %size.p = getelementptr %Storage, ptr %storages, i64 %index, i32 1
  call void @free_block(ptr %address.p, ptr %size.p)
  %index.next = add i64 %index, 1
  br label %next
out:
  ret void
}

; --- Steps of a program ---------------------------------------------------------------------------------------

; True if the steps that remain are to be skipped; looks at the cancel word.
define internal i1 @is_stopped(ptr %context) {
entry:
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  %status = load i64, ptr %status.p
  %running = icmp eq i64 %status, 0
  br i1 %running, label %poll, label %stopped
poll:
  %cancel.p = getelementptr %Context, ptr %context, i64 0, i32 4
  %cancel = load ptr, ptr %cancel.p
  %has.word = icmp ne ptr %cancel, null
  br i1 %has.word, label %read, label %go.on
read:
  %word = load atomic i64, ptr %cancel monotonic, align 8
  %is.set = icmp ne i64 %word, 0
  br i1 %is.set, label %cancelled, label %go.on
cancelled:
  store i64 1, ptr %status.p                                                      ; DLC_CANCELLED
  br label %stopped
stopped:
  ret i1 true
go.on:
  ret i1 false
}

define void @dlc_launch(ptr %context, ptr %kernel, ptr %args, i64 %chunks) {
entry:
  %stopped = call i1 @is_stopped(ptr %context)
  %empty = icmp slt i64 %chunks, 1
  %skip = or i1 %stopped, %empty
  br i1 %skip, label %out, label %count
count:
  %launches.p = getelementptr %Context, ptr %context, i64 0, i32 12
  %launches = load i64, ptr %launches.p
  %launches.next = add i64 %launches, 1
  store i64 %launches.next, ptr %launches.p
  %chunks.p = getelementptr %Context, ptr %context, i64 0, i32 13
  %chunks.before = load i64, ptr %chunks.p
  %chunks.next = add i64 %chunks.before, %chunks
  store i64 %chunks.next, ptr %chunks.p
  %profile.p = getelementptr %Context, ptr %context, i64 0, i32 9
  %profile = load ptr, ptr %profile.p
  %is.profiled = icmp ne ptr %profile, null
  br i1 %is.profiled, label %timed, label %untimed
timed:
  call void @launch_timed(ptr %context, ptr %kernel, ptr %args, i64 %chunks)
  br label %out
untimed:
  call void @launch(ptr %context, ptr %kernel, ptr %args, i64 %chunks)
  br label %out
out:
  ret void
}

define internal void @launch_timed(ptr %context, ptr %kernel, ptr %args, i64 %chunks) noinline {
entry:
  %start = call i64 @now()
  call void @launch(ptr %context, ptr %kernel, ptr %args, i64 %chunks)
  %end = call i64 @now()
  %profile.p = getelementptr %Context, ptr %context, i64 0, i32 9
  %profile = load ptr, ptr %profile.p
  %capacity.p = getelementptr %Context, ptr %context, i64 0, i32 10
  %capacity = load i64, ptr %capacity.p
  %count.p = getelementptr %Context, ptr %context, i64 0, i32 11
  %count = load i64, ptr %count.p
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %count.p
  %fits = icmp ult i64 %count, %capacity
  br i1 %fits, label %record, label %out
record:
  %kernel.p = getelementptr %Record, ptr %profile, i64 %count, i32 0
  store ptr %kernel, ptr %kernel.p
  %chunks.p = getelementptr %Record, ptr %profile, i64 %count, i32 1
  store i64 %chunks, ptr %chunks.p
  %start.p = getelementptr %Record, ptr %profile, i64 %count, i32 2
  store i64 %start, ptr %start.p
  %end.p = getelementptr %Record, ptr %profile, i64 %count, i32 3
  store i64 %end, ptr %end.p
  %step.p = getelementptr %Context, ptr %context, i64 0, i32 17
  %step = load i64, ptr %step.p
  %record.step.p = getelementptr %Record, ptr %profile, i64 %count, i32 4
  store i64 %step, ptr %record.step.p
  br label %out
out:
  ret void
}

define i64 @dlc_host_step(ptr %context, i64 %step, ptr %buffers, ptr %symbols) {
entry:
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  %stopped = call i1 @is_stopped(ptr %context)
  br i1 %stopped, label %out, label %find
find:
  %host.p = getelementptr %Context, ptr %context, i64 0, i32 7
  %host = load ptr, ptr %host.p
  %has.host = icmp ne ptr %host, null
  br i1 %has.host, label %run, label %failed
run:
  %data.p = getelementptr %Context, ptr %context, i64 0, i32 8
  %data = load ptr, ptr %data.p
  ; The host runs with the mode of generated code: NumPy wants the default mode, too.
  %result = call i64 %host(ptr %data, i64 %step, ptr %buffers, ptr %symbols)
  %succeeded = icmp eq i64 %result, 0
  br i1 %succeeded, label %out, label %failed
failed:
  store i64 4, ptr %status.p                                                      ; DLC_HOST_ERROR
  br label %out
out:
  %status = load i64, ptr %status.p
  ret i64 %status
}

define void @dlc_copy(ptr %context, ptr %target, ptr %source, i64 %bytes) {
entry:
  %stopped = call i1 @is_stopped(ptr %context)
  %empty = icmp slt i64 %bytes, 1
  %skip = or i1 %stopped, %empty
  br i1 %skip, label %out, label %copy
copy:
  %ignored = call ptr @memmove(ptr %target, ptr %source, i64 %bytes)
  br label %out
out:
  ret void
}

define i64 @dlc_stopped(ptr %context) {
  %stopped = call i1 @is_stopped(ptr %context)
  %result = zext i1 %stopped to i64
  ret i64 %result
}

define void @dlc_endless(ptr %context, i64 %step) {
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  store i64 6, ptr %status.p                                                      ; DLC_ENDLESS
  %fault.p = getelementptr %Context, ptr %context, i64 0, i32 6
  %key = shl i64 %step, 40
  store i64 %key, ptr %fault.p
  ret void
}

define void @dlc_report_fault(ptr %fault, i64 %kernel, i64 %chunk) {
  %shifted = shl i64 %kernel, 40
  %key = or i64 %shifted, %chunk
  ; DLC_NO_FAULT is -1, the largest unsigned number.
  %old = atomicrmw umin ptr %fault, i64 %key monotonic, align 8
  ret void
}

; --- Calls ----------------------------------------------------------------------------------------------------

define i64 @dlc_call(ptr %call) {
entry:
  %driver = load ptr, ptr %call
  %context.p = getelementptr %Call, ptr %call, i64 0, i32 1
  %context = load ptr, ptr %context.p
  %symbols.p = getelementptr %Call, ptr %call, i64 0, i32 2
  %symbols = load ptr, ptr %symbols.p
  %inputs.p = getelementptr %Call, ptr %call, i64 0, i32 3
  %inputs = load ptr, ptr %inputs.p
  %outputs.p = getelementptr %Call, ptr %call, i64 0, i32 4
  %outputs = load ptr, ptr %outputs.p
  %constants.p = getelementptr %Call, ptr %call, i64 0, i32 5
  %constants = load ptr, ptr %constants.p
  %arena.p = getelementptr %Call, ptr %call, i64 0, i32 6
  %arena = load ptr, ptr %arena.p
  %status.p = getelementptr %Context, ptr %context, i64 0, i32 5
  store i64 0, ptr %status.p
  %fault.p = getelementptr %Context, ptr %context, i64 0, i32 6
  store i64 -1, ptr %fault.p

  %mode = call i64 @fp_mode_read()
  %mode.default = call i64 @fp_mode_default()
  call void @fp_mode_write(i64 %mode.default)
  %result = call i64 %driver(ptr %context, ptr %symbols, ptr %inputs, ptr %outputs, ptr %constants, ptr %arena)
  call void @fp_mode_write(i64 %mode)

  ; What stopped the call explains what the driver saw afterwards, so it comes first.
  %status = load i64, ptr %status.p
  %fault = load i64, ptr %fault.p
  %no.fault = icmp eq i64 %fault, -1
  %from.fault = select i1 %no.fault, i64 0, i64 3                                 ; DLC_FAULT
  %driver.failed = icmp ne i64 %result, 0
  %from.driver = select i1 %driver.failed, i64 %result, i64 %from.fault
  %stopped = icmp ne i64 %status, 0
  %final = select i1 %stopped, i64 %status, i64 %from.driver
  ret i64 %final
}
