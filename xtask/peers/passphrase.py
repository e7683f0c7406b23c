"""Starts a program in a pseudo-terminal, types one passphrase whenever the program asks without echo, and prints the
program's output.

passphrase.py PASSPHRASE PROGRAM ARGUMENTS...
"""

import os
import pty
import select
import signal
import sys
import termios
import time

DEADLINE = 60


def main():
    passphrase, command = sys.argv[1], sys.argv[2:]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    shown, answered = b"", 0
    deadline = time.monotonic() + DEADLINE
    while True:
        if select.select([terminal], [], [], 0.01)[0]:
            try:
                shown += os.read(terminal, 4096)
                continue
            except OSError:
                # The program has closed the terminal.
                break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            sys.exit(f"too late; it showed {shown!r}")
        echo = termios.tcgetattr(terminal)[3] & termios.ECHO
        if shown[answered:].rstrip().endswith(b":") and not echo:
            answered = len(shown)
            os.write(terminal, passphrase.encode() + b"\n")
    _, status = os.waitpid(child, 0)
    sys.stdout.buffer.write(shown)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
