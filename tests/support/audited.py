"""Run one of the project's commands and write down what it asks of the system.

    python -m tests.support.audited REPORT net_runner -f MODEL.tod -d DATA -c 10

Python's own audit hook, which is set before anything of ours or of a library is imported. It sees
what Python code does; strace tells of native code. REPORT gets a JSON line for each event
that matters: connections, other programs, foreign functions, and everything that changes a file.
"""

from __future__ import annotations

import json
import os
import sys

_NEVER = (
    "socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork",
    "os.startfile", "pty.", "ctypes.dlopen", "urllib.", "http.", "ftplib.", "smtplib.", "poplib.",
    "imaplib.", "telnetlib.", "nntplib.", "webbrowser.",
)  # fmt: skip
_CHANGES = (
    "os.rename", "os.remove", "os.unlink", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
    "os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "shutil.", "tempfile.",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(report: int) -> None:
    """Set the hook; it cannot be removed again."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if writes or event.startswith((*_NEVER, *_CHANGES)):
            said = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
            os.write(report, json.dumps([event, *said]).encode() + b"\n")

    sys.addaudithook(hook)


def main() -> None:
    report, program, *words = sys.argv[1:]
    watch(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    sys.argv = [program, *words]
    if program.endswith(".py"):
        with open(program) as file:
            exec(compile(file.read(), program, "exec"), {"__name__": "__main__"})
    elif program == "net_runner":
        from tod.cli import net_runner

        net_runner.main()
    else:
        from tod.cli import app as cli

        cli.main()


if __name__ == "__main__":
    main()
