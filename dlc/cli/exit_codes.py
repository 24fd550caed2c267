"""What the exit status of `dlc` says."""

from __future__ import annotations

from enum import IntEnum

from dlc.errors import CancelledError, Error, InternalError, LimitError, UnsupportedError, VerificationError


class ExitCode(IntEnum):
    """The statuses of all commands."""

    OK = 0
    DIFFERS = 1  #: answers differ, or a benchmark regressed
    BAD_INPUT = 2  #: wrong usage, a bad model or bad input
    UNSUPPORTED = 3  #: dlc does not compile this model (as strictly as asked)
    LIMIT = 4  #: a limit or memory
    BUG = 70  #: a bug in dlc (EX_SOFTWARE of sysexits.h)
    INTERRUPTED = 130  #: 128 + SIGINT, as shells report it
    BROKEN_PIPE = 141  #: 128 + SIGPIPE: whoever read the output stopped


def exit_code(error: BaseException) -> ExitCode:
    """The status for an error that ends a command."""
    match error:
        case KeyboardInterrupt() | CancelledError():
            return ExitCode.INTERRUPTED
        case VerificationError():
            return ExitCode.DIFFERS
        case UnsupportedError():
            return ExitCode.UNSUPPORTED
        case LimitError() | MemoryError():
            return ExitCode.LIMIT
        case InternalError():
            return ExitCode.BUG
        case Error():
            return ExitCode.BAD_INPUT
        case BrokenPipeError():
            return ExitCode.BROKEN_PIPE
        case _:
            return ExitCode.BUG
