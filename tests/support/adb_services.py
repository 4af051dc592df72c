"""What an Android phone's adb daemon does on a stream: shells and file transfer.

Knows streams (read, read_exactly, write; see tests.support.adb_daemon) and the file system; knows
no messages. All paths are those of the process, which is in the jail.

Sources: AOSP packages/modules/adb, SERVICES.TXT (names), shell_protocol.h (packets of the shell),
daemon/shell_service.cpp (its end, signals), SYNC.TXT and file_sync_protocol.h (packets of the
file transfer), daemon/file_sync_service.cpp (order of steps, errors). What differs: no terminal is
ever given (the old "shell:" and "exec:" have one on a phone; line ends are therefore kept), and no
file is sent compressed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import threading

SHELL = "/system/bin/sh"
SHELL_ENVIRONMENT = {
    "PATH": "/system/bin",
    "HOME": "/",
    "TMPDIR": "/data/local/tmp",
    "SHELL": SHELL,
    "USER": "shell",
    "LOGNAME": "shell",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
}
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
PACKET = struct.Struct("<BI")
SYNC = struct.Struct("<4sI")
STAT_V1 = struct.Struct("<3I")
STAT_V2 = struct.Struct("<IQQ4IQ3q")
CHUNK_BYTES = 64 * 1024


def shell(stream, options: list[str], command: str, environment: dict[str, str]) -> None:
    """The services "shell" (with the option v2: packets) and "exec"."""
    v2 = "v2" in options
    if "pty" in options or not command:
        write_packet(stream, STDERR, b"error: this daemon gives no terminal\n", v2)
        write_packet(stream, EXIT, b"\x7e", v2)
        return
    ends = [socket.socketpair() for _ in range(2 if v2 else 1)]
    process = subprocess.Popen(
        [SHELL, "-c", command],
        stdin=ends[0][1],
        stdout=ends[0][1],
        stderr=ends[-1][1],
        env=SHELL_ENVIRONMENT | environment,
        start_new_session=True,
    )
    for _, theirs in ends:
        theirs.close()
    ours = [end for end, _ in ends]
    with contextlib.ExitStack() as closing:
        for end in ours:
            closing.enter_context(end)
        outputs = [
            threading.Thread(target=pass_output, args=(stream, end, number, v2))
            for number, end in enumerate(ours, STDOUT)
        ]
        threading.Thread(target=pass_input, args=(stream, process, ours, v2), daemon=True).start()
        for thread in outputs:
            thread.start()
        for thread in outputs:
            # As on a phone: whoever still holds the shell's output keeps the connection open.
            thread.join()
        code = process.wait()
        write_packet(stream, EXIT, bytes([code if code >= 0 else 128 - code]), v2)


def write_packet(stream, number: int, data: bytes, v2: bool) -> None:
    """To the client; without v2 there are neither packets nor an exit code."""
    if v2:
        stream.write(PACKET.pack(number, len(data)) + data)
    elif number != EXIT:
        stream.write(data)


def pass_output(stream, end: socket.socket, number: int, v2: bool) -> None:
    """From the shell to the client, until either has gone."""
    with contextlib.suppress(OSError):
        while data := end.recv(CHUNK_BYTES):
            write_packet(stream, number, data, v2)


def pass_input(stream, process: subprocess.Popen, ours: list[socket.socket], v2: bool) -> None:
    """From the client to the shell; when the client goes, the shell is told by SIGHUP."""
    with contextlib.suppress(ConnectionError):
        while True:
            number, data = read_packet(stream) if v2 else (STDIN, stream.read())
            if not (v2 or data):
                break
            # A command that does not read its input, or has ended, is no reason to stop.
            with contextlib.suppress(OSError):
                if number == STDIN:
                    ours[0].sendall(data)
                elif number == CLOSE_STDIN:
                    ours[0].shutdown(socket.SHUT_WR)
    if process.poll() is None:
        process.send_signal(signal.SIGHUP)
    for end in ours:
        # The shell's output would fill its buffer and block what ignores SIGHUP.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def read_packet(stream) -> tuple[int, bytes]:
    number, length = PACKET.unpack(stream.read_exactly(PACKET.size))
    return number, stream.read_exactly(length)


class SyncError(Exception):
    """What the client is told by FAIL; the connection ends then."""


@contextlib.contextmanager
def said_as(step: str):
    """An error of the system, as adbd words it."""
    try:
        yield
    except OSError as error:
        raise SyncError(f"{step}: {os.strerror(error.errno)}") from error


def sync(stream, options: list[str], argument: str, environment: dict[str, str]) -> None:
    """The service "sync": requests for files, until QUIT or the first error."""
    while True:
        request, length = SYNC.unpack(stream.read_exactly(SYNC.size))
        path = stream.read_exactly(length)
        if request == b"QUIT":
            return
        try:
            if length > 1024:
                raise SyncError("path too long")
            if request not in REQUESTS:
                raise SyncError(f"unknown command {request!r}")
            REQUESTS[request](stream, request, path)
        except SyncError as error:
            text = str(error).encode()
            stream.write(SYNC.pack(b"FAIL", len(text)) + text)
            if request == b"SEND":
                drain(stream)
            return


def drain(stream) -> None:
    """Read what the client had sent before it was told of the error: else it may lose that."""
    kind = b"DATA"
    while kind == b"DATA":
        kind, length = SYNC.unpack(stream.read_exactly(SYNC.size))
        if kind == b"DATA":
            stream.read_exactly(length)


def describe_v1(entry: os.stat_result) -> bytes:
    size, seconds = entry.st_size & 0xFFFFFFFF, int(entry.st_mtime) & 0xFFFFFFFF
    return STAT_V1.pack(entry.st_mode, size, seconds)


def describe_v2(entry: os.stat_result, error: int = 0) -> bytes:
    times = (int(entry.st_atime), int(entry.st_mtime), int(entry.st_ctime))
    owner = (entry.st_nlink, entry.st_uid, entry.st_gid)
    place = (entry.st_dev, entry.st_ino)
    return STAT_V2.pack(error, *place, entry.st_mode, *owner, entry.st_size, *times)


def send_stat(stream, request: bytes, path: bytes) -> None:
    """STAT (of the link itself) and LST2, STA2 (its target)."""
    try:
        entry, error = (os.stat if request == b"STA2" else os.lstat)(path), 0
    except OSError as failure:
        entry, error = os.stat_result([0] * 10), failure.errno
    text = describe_v1(entry) if request == b"STAT" else describe_v2(entry, error)
    stream.write(request + text)


def send_list(stream, request: bytes, path: bytes) -> None:
    """LIST and LIS2; a folder that cannot be read is empty."""
    kind, describe = (b"DENT", describe_v1) if request == b"LIST" else (b"DNT2", describe_v2)
    answer = b""
    with contextlib.suppress(OSError):
        for name in [b".", b"..", *os.listdir(path)]:
            entry = os.lstat(os.path.join(path, name))
            answer += kind + describe(entry) + struct.pack("<I", len(name)) + name
    end = len(describe(os.stat_result([0] * 10))) + 4
    stream.write(answer + b"DONE" + bytes(end))


def receive(stream, request: bytes, spec: bytes) -> None:
    """SEND: a file or a link from the client."""
    path, _, digits = spec.rpartition(b",")
    mode = int(digits)
    before = os.lstat(path).st_mode if os.path.lexists(path) else 0
    if stat.S_ISREG(before) or (stat.S_ISLNK(before) and not stat.S_ISLNK(mode)):
        # A new file: who has the old one open (a program that runs) keeps it as it was.
        with contextlib.suppress(OSError):
            os.unlink(path)
    if not os.path.lexists(os.path.dirname(path)):
        with said_as("secure_mkdirs failed"):
            os.makedirs(os.path.dirname(path), 0o775)
    seconds = receive_link(stream, path) if stat.S_ISLNK(mode) else receive_file(stream, path, mode)
    with contextlib.suppress(OSError):
        os.utime(path, (seconds, seconds), follow_symlinks=False)
    stream.write(SYNC.pack(b"OKAY", 0))


def receive_file(stream, path: bytes, mode: int) -> int:
    # adbd gives group and others what the owner has, whatever the client said of them.
    owner = mode & 0o700
    mode = owner | owner >> 3 | owner >> 6
    with said_as("couldn't create file"):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(file, mode)
        while True:
            kind, length = SYNC.unpack(stream.read_exactly(SYNC.size))
            if kind == b"DONE":
                return length
            if kind != b"DATA" or length > CHUNK_BYTES:
                raise SyncError("invalid data message")
            data = memoryview(stream.read_exactly(length))
            while data:
                with said_as("write failed"):
                    data = data[os.write(file, data) :]
    except (SyncError, ConnectionError):
        # Nothing half sent stays; only a power cut can leave that.
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(file)


def receive_link(stream, path: bytes) -> int:
    _, length = SYNC.unpack(stream.read_exactly(SYNC.size))
    target = stream.read_exactly(length).rstrip(b"\0")
    with said_as("symlink failed"):
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)
    _, seconds = SYNC.unpack(stream.read_exactly(SYNC.size))
    return seconds


def send_file(stream, request: bytes, path: bytes) -> None:
    """RECV: a file to the client."""
    with said_as("open failed"):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        packet = b""
        while True:
            with said_as("read failed"):
                data = os.read(file, CHUNK_BYTES - SYNC.size)
            if not data:
                break
            stream.write(packet)
            packet = SYNC.pack(b"DATA", len(data)) + data
    finally:
        os.close(file)
    # In one piece: between adb's server and its client a second small one waits 40 ms (Nagle).
    stream.write(packet + SYNC.pack(b"DONE", 0))


SERVICES = {"shell": shell, "exec": shell, "sync": sync}
REQUESTS = {
    b"STAT": send_stat,
    b"STA2": send_stat,
    b"LST2": send_stat,
    b"LIST": send_list,
    b"LIS2": send_list,
    b"SEND": receive,
    b"RECV": send_file,
}
