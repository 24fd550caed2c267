; Structures of the runtime; the other modules of this folder are appended to this text.
; dlc.h documents %Context and %Call, which are shared with compiled models and callers.

;                    0: pool   2: scratch   4: cancel   6: fault  8: host data   10: capacity   12: launches
;                      1: threads 3: bytes     5: status  7: host   9: profile      11: count      13: chunks
;                   14: storages  15: their number  16: most bytes of each  17: step
%Context = type { ptr, i64, ptr, i64, ptr, i64, i64, ptr, ptr, ptr, i64, i64, i64, i64, ptr, i64, i64, i64, [2 x i64] }

;                 address, bytes
%Storage = type { ptr, i64 }

;              driver, context, symbols, inputs, outputs, constants, arena
%Call = type { ptr, ptr, ptr, ptr, ptr, ptr, ptr }

;                kernel, chunks, start, end, step
%Record = type { ptr, i64, i64, i64, i64 }

; The state of a pool. Words that different threads write lie 128 bytes apart, since adjacent cache lines are
; fetched in pairs. All zero means that no thread was started: that is what a child finds after a fork.
%Pool = type {
  i64, [120 x i8],                                ; 0: ticket: sequence << 24 | chunks not yet claimed
  i64, i32, [116 x i8],                           ; 2: chunks finished by workers, 3: 1 while the caller sleeps
  %Launch, [96 x i8],                             ; 5: what the ticket stands for
  i32, [124 x i8],                                ; 7: workers asleep
  %Team, [72 x i8],                               ; 9: state of the caller that holds the pool
  [1024 x %Worker]                                ; 11: slot 0 is unused: participant 0 is the caller
}

; Written by the caller while no chunk is open, so a worker that has claimed a chunk may read it.
;                0: kernel, 1: args, 2: end: chunk index = end - unclaimed, 3: participants allowed
%Launch = type { ptr, ptr, i64, i64 }

;              0: lock   2: participants that exist      4: scratch bytes of the ready   6: sequence
;                1: pauses in 20 us   3: participants that are ready   5: most that exist (0: no bound found yet)
;                                                                                             7: wake-ups
%Team = type { i32, i32, i64, i64, i64, i64, i64, i64 }

;                0: thread, 1: scratch, 2: scratch bytes, 3: pool, 4: index
%Worker = type { i64, ptr, i64, ptr, i64, [24 x i8] }

declare i64 @syscall(i64, ...)
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare ptr @mremap(ptr, i64, i64, i32, ...)
declare ptr @memmove(ptr, ptr, i64)
declare i32 @munmap(ptr, i64)
declare i32 @madvise(ptr, i64, i32)
declare i32 @prctl(i32, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sigfillset(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @llvm.umin.i32(i32, i32)
