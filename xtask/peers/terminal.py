"""Starts a program in a pseudo-terminal, and plays the person there by a list of steps.

    terminal.py STEPS PROGRAM ARGUMENTS...

STEPS is a list in JSON. ["see", TEXT] waits until the program has shown the text. ["echo", BOOL] checks whether the
terminal currently shows what is typed. ["type", TEXT] types. ["signal", NUMBER] sends a signal to the program.
["stopped", NUMBER] waits until the signal has stopped the program. ["exit", CODE] waits for the program's end, where a
negative code is a signal. At the end the terminal must have its first settings.
"""

import fcntl
import json
import os
import select
import signal
import sys
import termios
import time

DEADLINE = 60


def fail(reason, shown):
    print(f"{reason}; it showed: {shown!r}", file=sys.stderr)
    sys.exit(1)


def main():
    steps, command = json.loads(sys.argv[1]), sys.argv[2:]
    # The program's end stays open here, so that its settings can be read after the program has ended.
    terminal, slave = os.openpty()
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        # The parent process may ignore some of these signals, as a shell does for background jobs.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for stream in range(3):
            os.dup2(slave, stream)
        os.execvp(command[0], command)
    shown, looked = b"", 0
    deadline = time.monotonic() + DEADLINE

    def read():
        nonlocal shown
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            fail("too late", shown)
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096)

    for kind, value in steps:
        if kind == "see":
            while value.encode() not in shown[looked:]:
                read()
            looked = shown.index(value.encode(), looked) + len(value.encode())
        elif kind == "echo":
            if bool(termios.tcgetattr(slave)[3] & termios.ECHO) != value:
                fail(f"echo is not {value}", shown)
        elif kind == "type":
            os.write(terminal, value.encode())
        elif kind == "signal":
            os.kill(child, value)
        elif kind == "stopped":
            while True:
                changed, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
                if changed:
                    break
                read()
            if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != value:
                fail(f"status {status}, expected a stop by {value}", shown)
        elif kind == "exit":
            while True:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    break
                read()
            code = os.waitstatus_to_exitcode(status)
            if code != value:
                read()
                fail(f"exit {code}, expected {value}", shown)
    if termios.tcgetattr(slave) != before:
        fail("the terminal is not as it was", shown)
    while select.select([terminal], [], [], 0)[0]:
        shown += os.read(terminal, 4096)
    sys.stdout.buffer.write(shown)


main()
