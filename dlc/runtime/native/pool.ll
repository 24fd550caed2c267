; The thread pool: runs the chunks of one kernel at a time on the calling thread and on workers.
;
; Only the caller walks the program. For each kernel it writes down what to run (%Launch) and publishes a
; ticket, sequence << 24 | number of unclaimed chunks. Caller and workers claim chunks by decrementing the
; ticket with compare-exchange; whoever holds a chunk may read %Launch, since the caller writes it again only
; after all claimed chunks were finished. Hence nobody ever waits for a thread that holds no chunk: a worker
; that the system has preempted, or that is slow to wake, costs nothing.
;
; Workers spin for about 20 us after their last chunk, then sleep on the low half of the ticket with a futex.
; A ticket of -1 tells them to end.

@thread_name = internal constant [11 x i8] c"dlc-worker\00"

; --- Waiting --------------------------------------------------------------------------------------------------

; Sleeps while *word == value, until a wake-up whose mask shares a bit with `mask`. May return for no reason.
define internal void @futex_wait(ptr %word, i32 %value, i32 %mask) noinline {
  %number = load i64, ptr @futex_number
  ; 137 = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG
  %ignored = call i64 (i64, ...) @syscall(i64 %number, ptr %word, i32 137, i32 %value, ptr null, ptr null, i32 %mask)
  ret void
}

; Wakes at most `count` sleepers whose masks share a bit with `mask`; returns how many.
define internal i64 @futex_wake(ptr %word, i32 %count, i32 %mask) noinline {
  %number = load i64, ptr @futex_number
  ; 138 = FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG
  %woken = call i64 (i64, ...) @syscall(i64 %number, ptr %word, i32 138, i32 %count, ptr null, ptr null, i32 %mask)
  ret i64 %woken
}

; CLOCK_MONOTONIC in nanoseconds.
define internal i64 @now() noinline {
  %time = alloca [2 x i64], align 8
  %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %nanoseconds.p = getelementptr [2 x i64], ptr %time, i64 0, i64 1
  %nanoseconds = load i64, ptr %nanoseconds.p
  %scaled = mul i64 %seconds, 1000000000
  %sum = add i64 %scaled, %nanoseconds
  ret i64 %sum
}

; How many pauses take about 20 us; one pause takes 5 to 60 ns, depending on the core.
define internal i32 @calibrate_pauses() noinline {
entry:
  %start = call i64 @now()
  br label %pause
pause:
  %i = phi i32 [ 0, %entry ], [ %i.next, %pause ]
  call void @cpu_pause()
  %i.next = add i32 %i, 1
  %more = icmp ult i32 %i.next, 256
  br i1 %more, label %pause, label %measured
measured:
  %end = call i64 @now()
  %elapsed = sub i64 %end, %start
  %divisor = call i64 @llvm.smax.i64(i64 %elapsed, i64 1)
  %pauses = udiv i64 5120000, %divisor            ; 256 pauses * 20000 ns / elapsed ns
  ; A measurement that was interrupted or that meets a coarse clock must not spin for ever, or not at all.
  %at.least = call i64 @llvm.smax.i64(i64 %pauses, i64 200)
  %bounded = call i64 @llvm.smin.i64(i64 %at.least, i64 5000)
  %result = trunc i64 %bounded to i32
  ret i32 %result
}

; --- Workers --------------------------------------------------------------------------------------------------

define internal ptr @worker_main(ptr %self) noinline {
entry:
  ; A thread inherits the floating-point mode of its creator.
  %mode = call i64 @fp_mode_default()
  call void @fp_mode_write(i64 %mode)
  %named = call i32 (i32, ...) @prctl(i32 15, ptr @thread_name)                   ; PR_SET_NAME

  %pool.p = getelementptr %Worker, ptr %self, i64 0, i32 3
  %pool = load ptr, ptr %pool.p
  %index.p = getelementptr %Worker, ptr %self, i64 0, i32 4
  %index = load i64, ptr %index.p
  %scratch.p = getelementptr %Worker, ptr %self, i64 0, i32 1
  %spin.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 1
  %spin.limit = load i32, ptr %spin.p
  %finished.p = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %waiting.p = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %kernel.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 0
  %args.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 1
  %end.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 2
  %allowed.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 3
  %sleepers.p = getelementptr %Pool, ptr %pool, i64 0, i32 7
  %index.32 = trunc i64 %index to i32
  %bit = call i32 @llvm.umin.i32(i32 %index.32, i32 31)
  %wake.mask = shl i32 1, %bit
  br label %look

look:
  %spins = phi i32 [ 0, %entry ], [ %spins, %try ], [ 0, %run ], [ 0, %report ], [ 0, %wake.caller ],
                   [ %spins.next, %idle ], [ 0, %sleep ]
  %done = phi i64 [ 0, %entry ], [ %done, %try ], [ %done.next, %run ], [ 0, %report ], [ 0, %wake.caller ],
                  [ 0, %idle ], [ 0, %sleep ]
  %ticket = load atomic i64, ptr %pool acquire, align 8
  %unclaimed = and i64 %ticket, 16777215
  %stop = icmp eq i64 %ticket, -1
  br i1 %stop, label %exit, label %open
open:
  %is.open = icmp ne i64 %unclaimed, 0
  br i1 %is.open, label %eligible, label %closed

eligible:
  ; If the claim below succeeds, no chunk was missing when this was read, so it belongs to this ticket.
  %allowed = load atomic i64, ptr %allowed.p monotonic, align 8
  %is.allowed = icmp ult i64 %index, %allowed
  br i1 %is.allowed, label %try, label %idle
try:
  %ticket.next = sub i64 %ticket, 1
  %exchange = cmpxchg ptr %pool, i64 %ticket, i64 %ticket.next acq_rel acquire
  %claimed = extractvalue { i64, i1 } %exchange, 1
  br i1 %claimed, label %run, label %look
run:
  %kernel = load ptr, ptr %kernel.p
  %args = load ptr, ptr %args.p
  %end = load i64, ptr %end.p
  %chunk = sub i64 %end, %unclaimed
  %scratch = load ptr, ptr %scratch.p
  call void %kernel(ptr %args, i64 %chunk, ptr %scratch)
  %done.next = add i64 %done, 1
  br label %look

closed:
  ; Chunks of one launch are reported together: one write to a shared line instead of one a chunk.
  %has.done = icmp ne i64 %done, 0
  br i1 %has.done, label %report, label %idle
report:
  %before = atomicrmw add ptr %finished.p, i64 %done seq_cst, align 8
  %waiting = load atomic i32, ptr %waiting.p seq_cst, align 4
  %is.waiting = icmp ne i32 %waiting, 0
  br i1 %is.waiting, label %wake.caller, label %look
wake.caller:
  %woken = call i64 @futex_wake(ptr %finished.p, i32 1, i32 -1)
  br label %look

idle:
  call void @cpu_pause()
  %spins.next = add i32 %spins, 1
  %patient = icmp ult i32 %spins.next, %spin.limit
  br i1 %patient, label %look, label %sleep
sleep:
  ; The caller publishes, then reads the count of sleepers; here the count rises before the kernel compares the
  ; ticket: either the caller sees a sleeper, or the comparison sees the new ticket.
  %slept = atomicrmw add ptr %sleepers.p, i32 1 seq_cst, align 4
  %low = trunc i64 %ticket to i32
  call void @futex_wait(ptr %pool, i32 %low, i32 %wake.mask)
  %awake = atomicrmw sub ptr %sleepers.p, i32 1 seq_cst, align 4
  br label %look

exit:
  ret ptr null
}

; Starts workers until `wanted` participants exist. Remembers where the system refused, so that the attempt is
; not repeated at each launch. Runs with the pool's lock held.
define internal void @start_workers(ptr %pool, i64 %wanted) noinline {
entry:
  %attributes = alloca [64 x i8], align 16        ; pthread_attr_t: 56 bytes with glibc and musl on x86-64, 64
  %all.signals = alloca [128 x i8], align 16      ; on AArch64; sigset_t: 128
  %old.signals = alloca [128 x i8], align 16
  %spin.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 1
  %exist.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 2
  %bound.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 5
  %exist.0 = load i64, ptr %exist.p
  %first = call i64 @llvm.umax.i64(i64 %exist.0, i64 1)
  store i64 %first, ptr %exist.p
  %spin = load i32, ptr %spin.p
  %is.calibrated = icmp ne i32 %spin, 0
  br i1 %is.calibrated, label %prepare, label %calibrate
calibrate:
  %pauses = call i32 @calibrate_pauses()
  store i32 %pauses, ptr %spin.p
  br label %prepare
prepare:
  %ignored.1 = call i32 @pthread_attr_init(ptr %attributes)
  %ignored.2 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 1048576)
  ; Signals are for the application's threads: a worker inherits a mask that blocks all of them.
  %ignored.3 = call i32 @sigfillset(ptr %all.signals)
  %ignored.4 = call i32 @pthread_sigmask(i32 2, ptr %all.signals, ptr %old.signals)
  br label %next
next:
  %index = phi i64 [ %first, %prepare ], [ %index.next, %started ]
  %more = icmp ult i64 %index, %wanted
  br i1 %more, label %create, label %finish
create:
  %worker = getelementptr %Pool, ptr %pool, i64 0, i32 11, i64 %index
  %pool.p = getelementptr %Worker, ptr %worker, i64 0, i32 3
  store ptr %pool, ptr %pool.p
  %index.p = getelementptr %Worker, ptr %worker, i64 0, i32 4
  store i64 %index, ptr %index.p
  %failure = call i32 @pthread_create(ptr %worker, ptr %attributes, ptr @worker_main, ptr %worker)
  %is.started = icmp eq i32 %failure, 0
  br i1 %is.started, label %started, label %refused
started:
  %index.next = add i64 %index, 1
  store i64 %index.next, ptr %exist.p
  br label %next
refused:
  store i64 %index, ptr %bound.p
  br label %finish
finish:
  %ignored.5 = call i32 @pthread_sigmask(i32 2, ptr %old.signals, ptr null)
  %ignored.6 = call i32 @pthread_attr_destroy(ptr %attributes)
  ret void
}

; --- The caller's side ----------------------------------------------------------------------------------------

; How many participants, at most `threads`, are ready to run with `bytes` of scratch each; starts threads and
; grows their scratch blocks as needed. Runs with the pool's lock held and no chunk open.
define internal i64 @team(ptr %pool, i64 %threads, i64 %bytes) {
entry:
  %ready.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 3
  %ready = load i64, ptr %ready.p
  %ready.bytes.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 4
  %ready.bytes = load i64, ptr %ready.bytes.p
  %bound.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 5
  %bound = load i64, ptr %bound.p
  %is.bounded = icmp ne i64 %bound, 0
  %most = select i1 %is.bounded, i64 %bound, i64 1024
  %wanted = call i64 @llvm.umin.i64(i64 %threads, i64 %most)
  %enough.threads = icmp ule i64 %wanted, %ready
  %enough.bytes = icmp ule i64 %bytes, %ready.bytes
  %enough = and i1 %enough.threads, %enough.bytes
  br i1 %enough, label %as.wanted, label %grow
as.wanted:
  ret i64 %wanted
grow:
  %grown = call i64 @grow_team(ptr %pool, i64 %wanted, i64 %bytes)
  ret i64 %grown
}

define internal i64 @grow_team(ptr %pool, i64 %wanted, i64 %bytes) noinline {
entry:
  call void @start_workers(ptr %pool, i64 %wanted)
  %exist.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 2
  %exist = load i64, ptr %exist.p
  %ready.bytes.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 4
  %ready.bytes = load i64, ptr %ready.bytes.p
  %size = call i64 @llvm.umax.i64(i64 %bytes, i64 %ready.bytes)
  br label %next
next:
  %index = phi i64 [ 1, %entry ], [ %index.next, %grown ]
  %more = icmp ult i64 %index, %exist
  br i1 %more, label %check, label %finish
check:
  %worker = getelementptr %Pool, ptr %pool, i64 0, i32 11, i64 %index
  %scratch.p = getelementptr %Worker, ptr %worker, i64 0, i32 1
  %bytes.p = getelementptr %Worker, ptr %worker, i64 0, i32 2
  %status = call i64 @grow_block(ptr %scratch.p, ptr %bytes.p, i64 %size)
  %is.grown = icmp eq i64 %status, 0
  br i1 %is.grown, label %grown, label %finish
grown:
  %index.next = add i64 %index, 1
  br label %next
finish:
  ; Participants from `index` on lack memory: they take no part.
  %ready.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 3
  store i64 %index, ptr %ready.p
  store i64 %size, ptr %ready.bytes.p
  %result = call i64 @llvm.umin.i64(i64 %index, i64 %wanted)
  ret i64 %result
}

; Wakes as many sleeping workers as the chunks can use beyond those that are awake already.
define internal void @wake_workers(ptr %pool, i64 %participants, i64 %chunks) {
entry:
  %sleepers.p = getelementptr %Pool, ptr %pool, i64 0, i32 7
  %sleepers = load atomic i32, ptr %sleepers.p seq_cst, align 4
  %anyone.asleep = icmp ne i32 %sleepers, 0
  br i1 %anyone.asleep, label %count, label %out
count:
  %exist.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 2
  %exist = load i64, ptr %exist.p
  %sleepers.64 = zext i32 %sleepers to i64
  %awake.1 = sub i64 %exist, %sleepers.64                                         ; the caller included
  %useful = call i64 @llvm.umin.i64(i64 %participants, i64 %chunks)
  %missing = sub i64 %useful, %awake.1
  %any.missing = icmp sgt i64 %missing, 0
  br i1 %any.missing, label %wake, label %out
wake:
  ; Worker i sleeps with bit min(i, 31) of its mask.
  %few = icmp ult i64 %participants, 32
  %participants.32 = trunc i64 %participants to i32
  %shift = select i1 %few, i32 %participants.32, i32 0
  %power = shl i32 1, %shift
  %bits = sub i32 %power, 1
  %mask = select i1 %few, i32 %bits, i32 -1
  %missing.32 = trunc i64 %missing to i32
  %woken = call i64 @futex_wake(ptr %pool, i32 %missing.32, i32 %mask)
  %wakeups.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 7
  %wakeups = load i64, ptr %wakeups.p
  %wakeups.next = add i64 %wakeups, %woken
  store i64 %wakeups.next, ptr %wakeups.p
  br label %out
out:
  ret void
}

; Runs `count` chunks (1 <= count < 2^24), of which the last has index end - 1, with the workers' help.
; Runs with the pool's lock held.
define internal void @share(ptr %pool, ptr %kernel, ptr %args, ptr %scratch, i64 %end, i64 %count,
                            i64 %participants) noinline {
entry:
  %finished.p = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %waiting.p = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %kernel.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 0
  store ptr %kernel, ptr %kernel.p
  %args.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 1
  store ptr %args, ptr %args.p
  %end.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 2
  store i64 %end, ptr %end.p
  %allowed.p = getelementptr %Pool, ptr %pool, i64 0, i32 5, i32 3
  store atomic i64 %participants, ptr %allowed.p monotonic, align 8
  store atomic i64 0, ptr %finished.p monotonic, align 8
  %sequence.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 6
  %sequence = load i64, ptr %sequence.p
  %sequence.next = add i64 %sequence, 1
  store i64 %sequence.next, ptr %sequence.p
  %shifted = shl i64 %sequence.next, 24
  %published = or i64 %shifted, %count
  %old = atomicrmw xchg ptr %pool, i64 %published seq_cst, align 8
  call void @wake_workers(ptr %pool, i64 %participants, i64 %count)
  br label %claim

claim:
  %mine = phi i64 [ 0, %entry ], [ %mine, %try ], [ %mine.next, %run ]
  %ticket = load atomic i64, ptr %pool monotonic, align 8
  %unclaimed = and i64 %ticket, 16777215
  %is.open = icmp ne i64 %unclaimed, 0
  br i1 %is.open, label %try, label %claimed.all
try:
  %ticket.next = sub i64 %ticket, 1
  %exchange = cmpxchg ptr %pool, i64 %ticket, i64 %ticket.next acq_rel monotonic
  %claimed = extractvalue { i64, i1 } %exchange, 1
  br i1 %claimed, label %run, label %claim
run:
  %chunk = sub i64 %end, %unclaimed
  call void %kernel(ptr %args, i64 %chunk, ptr %scratch)
  %mine.next = add i64 %mine, 1
  br label %claim

claimed.all:
  %others = sub i64 %count, %mine
  %finished.0 = load atomic i64, ptr %finished.p acquire, align 8
  %is.done = icmp eq i64 %finished.0, %others
  br i1 %is.done, label %out, label %wait.start
wait.start:
  %spin.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 1
  %spin.limit = load i32, ptr %spin.p
  br label %wait
wait:
  %spins = phi i32 [ 0, %wait.start ], [ %spins.next, %wait.more ]
  %finished.1 = load atomic i64, ptr %finished.p acquire, align 8
  %is.done.1 = icmp eq i64 %finished.1, %others
  br i1 %is.done.1, label %out, label %wait.more
wait.more:
  call void @cpu_pause()
  %spins.next = add i32 %spins, 1
  %patient = icmp ult i32 %spins.next, %spin.limit
  br i1 %patient, label %wait, label %sleep
sleep:
  ; A worker is in the middle of a long chunk, or was preempted there: leave it this core.
  store atomic i32 1, ptr %waiting.p seq_cst, align 4
  br label %sleep.check
sleep.check:
  %finished.2 = load atomic i64, ptr %finished.p seq_cst, align 8
  %is.done.2 = icmp eq i64 %finished.2, %others
  br i1 %is.done.2, label %awake, label %sleep.more
sleep.more:
  %low = trunc i64 %finished.2 to i32
  call void @futex_wait(ptr %finished.p, i32 %low, i32 -1)
  br label %sleep.check
awake:
  store atomic i32 0, ptr %waiting.p monotonic, align 4
  br label %out
out:
  ret void
}

; All chunks on the calling thread.
define internal void @run_alone(ptr %kernel, ptr %args, ptr %scratch, i64 %chunks) {
entry:
  br label %next
next:
  %chunk = phi i64 [ 0, %entry ], [ %chunk.next, %run ]
  %more = icmp slt i64 %chunk, %chunks
  br i1 %more, label %run, label %out
run:
  call void %kernel(ptr %args, i64 %chunk, ptr %scratch)
  %chunk.next = add i64 %chunk, 1
  br label %next
out:
  ret void
}

; dlc_launch without its bookkeeping.
define internal void @launch(ptr %context, ptr %kernel, ptr %args, i64 %chunks) {
entry:
  %pool.p = getelementptr %Context, ptr %context, i64 0, i32 0
  %pool = load ptr, ptr %pool.p
  %threads.p = getelementptr %Context, ptr %context, i64 0, i32 1
  %threads = load i64, ptr %threads.p
  %scratch.p = getelementptr %Context, ptr %context, i64 0, i32 2
  %scratch = load ptr, ptr %scratch.p
  %bytes.p = getelementptr %Context, ptr %context, i64 0, i32 3
  %bytes = load i64, ptr %bytes.p
  %many.chunks = icmp sgt i64 %chunks, 1
  %many.threads = icmp sgt i64 %threads, 1
  %has.pool = icmp ne ptr %pool, null
  %many = and i1 %many.chunks, %many.threads
  %parallel = and i1 %many, %has.pool
  br i1 %parallel, label %acquire, label %alone

acquire:
  ; One caller at a time has the workers; another one runs its chunks itself rather than wait for them.
  %lock.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 0
  %held = atomicrmw xchg ptr %lock.p, i32 1 acquire, align 4
  %is.free = icmp eq i32 %held, 0
  br i1 %is.free, label %gather, label %alone
gather:
  %participants = call i64 @team(ptr %pool, i64 %threads, i64 %bytes)
  %anyone = icmp ugt i64 %participants, 1
  br i1 %anyone, label %batch, label %release.alone
batch:
  ; A ticket counts fewer than 2^24 chunks.
  %first = phi i64 [ 0, %gather ], [ %end, %batch ]
  %rest = sub i64 %chunks, %first
  %count = call i64 @llvm.umin.i64(i64 %rest, i64 16777215)
  %end = add i64 %first, %count
  call void @share(ptr %pool, ptr %kernel, ptr %args, ptr %scratch, i64 %end, i64 %count, i64 %participants)
  %more = icmp ult i64 %end, %chunks
  br i1 %more, label %batch, label %release
release:
  store atomic i32 0, ptr %lock.p release, align 4
  ret void

release.alone:
  store atomic i32 0, ptr %lock.p release, align 4
  br label %alone
alone:
  call void @run_alone(ptr %kernel, ptr %args, ptr %scratch, i64 %chunks)
  ret void
}

; --- Life of a pool -------------------------------------------------------------------------------------------

define ptr @dlc_pool_create() {
entry:
  %size = ptrtoint ptr getelementptr (%Pool, ptr null, i64 1) to i64
  %pool = call ptr @map_block(i64 %size)
  %failed = icmp eq ptr %pool, null
  br i1 %failed, label %out, label %mark
mark:
  ; 18 = MADV_WIPEONFORK: a child finds zeros, and starts its own threads. Where the kernel refuses, the child
  ; finds a pool whose workers never answer, and its callers run every chunk themselves.
  %ignored = call i32 @madvise(ptr %pool, i64 %size, i32 18)
  br label %out
out:
  ret ptr %pool
}

define void @dlc_pool_destroy(ptr %pool) {
entry:
  %size = ptrtoint ptr getelementptr (%Pool, ptr null, i64 1) to i64
  %exist.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 2
  %exist = load i64, ptr %exist.p
  %old = atomicrmw xchg ptr %pool, i64 -1 seq_cst, align 8
  %woken = call i64 @futex_wake(ptr %pool, i32 2147483647, i32 -1)
  br label %next
next:
  %index = phi i64 [ 1, %entry ], [ %index.next, %free ]
  %more = icmp ult i64 %index, %exist
  br i1 %more, label %join, label %out
join:
  %worker = getelementptr %Pool, ptr %pool, i64 0, i32 11, i64 %index
  %thread = load i64, ptr %worker
  %ignored = call i32 @pthread_join(i64 %thread, ptr null)
  br label %free
free:
  %scratch.p = getelementptr %Worker, ptr %worker, i64 0, i32 1
  %bytes.p = getelementptr %Worker, ptr %worker, i64 0, i32 2
  call void @free_block(ptr %scratch.p, ptr %bytes.p)
  %index.next = add i64 %index, 1
  br label %next
out:
  %unmapped = call i32 @munmap(ptr %pool, i64 %size)
  ret void
}

define i64 @dlc_pool_threads(ptr %pool) {
  %exist.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 2
  %exist = load atomic i64, ptr %exist.p monotonic, align 8
  %result = call i64 @llvm.umax.i64(i64 %exist, i64 1)
  ret i64 %result
}

define i64 @dlc_pool_wakeups(ptr %pool) {
  %wakeups.p = getelementptr %Pool, ptr %pool, i64 0, i32 9, i32 7
  %wakeups = load atomic i64, ptr %wakeups.p monotonic, align 8
  ret i64 %wakeups
}
