"""Foreseen ends of a command, with the exit codes that schedulers and scripts read.

0     done
1     the work failed: a full device or disk, steps that are not finite
2     the user's mistake, found before the work
75    asked to end; the same command goes on
130   Ctrl-C
"""

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
AGAIN = 75  # sysexits' EX_TEMPFAIL


class Ending(Exception):
    """An end that was foreseen; its text is all that a user is told."""

    code = FAILED
