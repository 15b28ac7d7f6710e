"""`python launch/sweeps/tied.py PARENT COMMAND ..` becomes COMMAND and ends when PARENT does.

A sweep that is killed outright (SIGKILL, memory run out) can end nothing itself, so Linux is asked
to. On other systems its runs go on, and the lock that they hold keeps a second sweep away.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM):
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # it ended before this was asked
            sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
