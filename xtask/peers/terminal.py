"""Somebody at a terminal: starts a program in a pseudo-terminal of its own, and does what the steps say.

    terminal.py STEPS PROGRAM ARGUMENTS...

STEPS is a list in JSON: ["see", TEXT] waits until the program has shown it, ["echo", BOOL] says whether the terminal shows
what is typed at that moment, ["type", TEXT] types, ["signal", NUMBER] sends the program one, ["stopped", NUMBER] waits until
a signal has stopped it, ["exit", CODE] waits for the program's end (a negative code is a signal). At the end the terminal
has to be as it was.
"""

import fcntl
import json
import os
import select
import signal
import sys
import termios
import time

PATIENCE = 60


def fail(reason, shown):
    print(f"{reason}; it showed: {shown!r}", file=sys.stderr)
    sys.exit(1)


def main():
    steps, command = json.loads(sys.argv[1]), sys.argv[2:]
    # The other end stays open here: so its settings can still be read when the program is gone.
    terminal, slave = os.openpty()
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        # Whoever started this may ignore some, as a shell does for what it runs in the background.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for stream in range(3):
            os.dup2(slave, stream)
        os.execvp(command[0], command)
    shown, looked = b"", 0
    deadline = time.monotonic() + PATIENCE

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
