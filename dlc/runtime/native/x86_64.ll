; What the runtime needs of an x86-64 Linux machine; appended to the other modules of this folder.

declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

; Number of the futex system call.
@futex_number = internal constant i64 202

; Tells the core that this is a spinning loop: 5 to 60 ns.
define internal void @cpu_pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}

; The thread's floating-point mode (MXCSR): rounding, flush-to-zero, exception masks.
define internal i64 @fp_mode_read() alwaysinline {
  %word = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %mode = load i32, ptr %word, align 4
  %mode.64 = zext i32 %mode to i64
  ret i64 %mode.64
}

define internal void @fp_mode_write(i64 %mode.64) alwaysinline {
  %word = alloca i32, align 4
  %mode = trunc i64 %mode.64 to i32
  store i32 %mode, ptr %word, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}

; Round to nearest even, denormals kept, all exceptions masked: MXCSR = 0x1f80.
define internal i64 @fp_mode_default() alwaysinline {
  ret i64 8064
}
