; What the runtime needs of an AArch64 Linux machine; appended to the other modules of this folder.

declare void @llvm.aarch64.isb(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)

; Number of the futex system call.
@futex_number = internal constant i64 98

; Tells the core that this is a spinning loop; `yield` does nothing on most cores, `isb` waits about 20 ns.
define internal void @cpu_pause() alwaysinline {
  call void @llvm.aarch64.isb(i32 15)
  ret void
}

; The thread's floating-point mode (FPCR): rounding, flush-to-zero, exception traps.
define internal i64 @fp_mode_read() alwaysinline {
  %mode = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %mode
}

define internal void @fp_mode_write(i64 %mode) alwaysinline {
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}

; Round to nearest even, denormals kept, no traps.
define internal i64 @fp_mode_default() alwaysinline {
  ret i64 0
}
