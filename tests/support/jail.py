"""A folder that is all that programs in it see, like an Android phone: no need is met by chance.

It holds a static busybox under the names of the tools that Android 8 has in /system/bin, three
devices and an empty /data/local/tmp: no /bin, no /tmp, no /usr, no libraries, no Python. What runs
in it sees only its own processes; all of them end with the command that entered. Root becomes
Android's user "shell"; an ordinary user needs user namespaces (unshare --map-root-user).

/proc is there as on a phone, /sys is not: qemu-user hands both of the workstation to its guest, and
onnxruntime 1.31 for arm64 crashes on x86-64's cpuinfo together with /sys, but not without /sys.

What differs from a phone: busybox's ash and tools are not mksh and toybox (ash also finds a few of
busybox's own tools without a link, awk among them); no SELinux; the workstation's kernel.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
SHELL_ID = 2000
DATA = "data/local/tmp"
DEVICES = ("null", "zero", "urandom")
# AOSP system/core shell_and_utilities/README.md, "Android 8.0", as far as busybox has them.
TOOLS = """
base64 basename bunzip2 bzcat bzip2 cat chgrp chmod chown chroot cksum clear cmp cp cpio cut date
dd df diff dirname dos2unix du echo env expand expr fallocate false find flock free grep groups
gunzip gzip head hostname id ionice kill killall ln logname ls md5sum mkdir mkfifo mknod mktemp
more mv nc nice nl nohup od paste patch pgrep pidof pkill printenv printf ps pwd readlink realpath
renice rm rmdir sed seq setsid sh sha1sum sha256sum sha512sum sleep sort split stat strings sync
tac tail tar taskset tee time timeout top touch tr true truncate tty umount uname uniq unix2dos
uptime usleep uudecode uuencode wc which whoami xargs xxd yes zcat
"""
# Runs inside the namespaces, as their process 1: it also buries what outlives its parent there.
SET_UP = """
set -eu
root=$1 data=$2
shift 2
# df looks for the mount that holds a path, so that the root must be one.
mount --bind "$root" "$root"
for device in null zero urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
[ -z "$data" ] || mount -t tmpfs -o "mode=0777,$data" tmpfs "$root/data/local/tmp"
"$@" <&3 &
wait $!
"""


def missing() -> str | None:
    """Why there can be no jail on this machine; None: there can."""
    for program in ("unshare", "mount", "chroot"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not BUSYBOX.is_file():
        return "busybox is not installed (apt-get install busybox-static)"
    if subprocess.run(["ldd", str(BUSYBOX)], capture_output=True).returncode == 0:
        return f"{BUSYBOX} is not static (apt-get install busybox-static)"
    tried = subprocess.run(
        [*_unshare(), "mount", "-t", "proc", "proc", "/proc"], capture_output=True, text=True
    )
    return tried.stderr.strip() or None if tried.returncode else None


def build(root: Path, emulator: Path | None = None) -> Path:
    """Fill a folder.

    Args:
        root: A folder that does not exist yet.
        emulator: A static qemu-user, put into /system/bin under its name; `uname -m` then says
            aarch64, so that what asks for the architecture finds that of the programs.
    """
    for folder in ("system/bin", "proc", "dev", DATA):
        (root / folder).mkdir(parents=True)
    tools = add_tools(root / "system" / "bin")
    if emulator:
        shutil.copy(emulator, tools)
        _replace_uname(tools)
    for name in DEVICES:
        (root / "dev" / name).touch()
    with contextlib.suppress(OSError):
        os.chown(root / DATA, SHELL_ID, SHELL_ID)
    return root


def add_tools(folder: Path, names: str = TOOLS) -> Path:
    """Put a busybox and links to it into a folder.

    Args:
        folder: Where programs are looked for.
        names: Of the tools, with blanks between; those that busybox lacks are left out.
    """
    shutil.copy(BUSYBOX, folder / "busybox")
    have = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, text=True).stdout.split()
    for name in set(names.split()) & set(have):
        (folder / name).symlink_to("busybox")
    return folder


def _replace_uname(tools: Path) -> None:
    # busybox's ash runs its own uname before any file of that name, unless it has none.
    program = (tools / "busybox").read_bytes()
    if program.count(b"\0uname\0") != 1:
        raise RuntimeError(f"the names of its tools are not as expected in {BUSYBOX}")
    (tools / "busybox").write_bytes(program.replace(b"\0uname\0", b"\0unamf\0"))
    (tools / "uname").unlink()
    (tools / "uname").write_text('#!/system/bin/sh\n[ "$*" != -m ] || exec echo aarch64\n')
    (tools / "uname").chmod(0o755)


def enter(root: Path, *command: object, data: str = "") -> list[str]:
    """The words that run a command inside the jail's namespaces, not yet in its root.

    Args:
        root: What build made.
        command: Program and arguments of the workstation; it may go into the root itself.
        data: Options of a tmpfs on /data/local/tmp ("size=2m", "ro"); empty: the plain folder.
    """
    script = ["sh", "-c", f"exec 3<&0\n{SET_UP}", "sh", root, data]
    return [str(word) for word in (*_unshare(), *script, *command)]


def shell(root: Path, command: str, data: str = "") -> list[str]:
    """The words that run a shell command in the jail as a phone's user would."""
    user = [f"--userspec={SHELL_ID}:{SHELL_ID}", "--groups="] if _is_root() else []
    inside = ["/system/bin/env", "-i", "PATH=/system/bin", "/system/bin/sh", "-c", command]
    return enter(root, "chroot", *user, root, *inside, data=data)


def _unshare() -> list[str]:
    user = [] if _is_root() else ["--map-root-user"]
    return ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child"]


def _is_root() -> bool:
    return os.geteuid() == 0
