"""A phone's adb daemon for the tests: it speaks the real protocol to the real adb client.

Knows messages and streams; what a stream carries (shell, files) is in adb_services.
tests.support.phone starts it inside the namespaces of tests.support.jail, and it goes into the jail
itself (chroot, and where it is root, Android's user "shell"), so that shells and transferred files
see the same tree.

Its standard input takes orders, one a line: "cut received 100000" or "cut sent 5000" ends the
connection once so many further bytes have passed; at its end (the test is gone) the daemon ends.

Sources: AOSP packages/modules/adb, protocol.txt (messages, flow control) and adb.h (versions,
payload limits, feature names). Not spoken: STLS (encrypted connections), and sendrecv_v2, which
Debian's client 29.0.6 does not know: nothing here could prove it.

Example: python -m tests.support.adb_daemon ROOT --unauthorized
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.adb_services import SERVICES
from tests.support.jail import SHELL_ID

HEADER = struct.Struct("<4s5I")
FEATURES = b"shell_v2,stat_v2,ls_v2,fixed_push_mkdir"
TOKEN, VERSION_CHECKSUMS, VERSION = 1, 0x01000000, 0x01000001


class Cut:
    """Lets bytes through until an ordered number of them has passed, then says to cut."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}

    def allow(self, direction: str, wanted: int) -> int:
        """How many of the wanted bytes may still pass; fewer: the connection ends after them."""
        if direction not in self.left:
            return wanted
        allowed = min(wanted, self.left[direction])
        self.left[direction] -= allowed
        if allowed < wanted:
            del self.left[direction]
        return allowed


class Stream:
    """One of the streams of a connection: blocking reads and writes for a service's thread."""

    def __init__(self, connection: Connection, local: int, remote: int) -> None:
        self._connection, self._local, self._remote = connection, local, remote
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        # One WRTE may be under way; the client's OKAY allows the next one.
        self._may_write = threading.Semaphore(1)
        self._lock = threading.Lock()
        self.closed = False

    def take(self, command: bytes, data: bytes) -> None:
        """What the client sent to this stream."""
        if command == b"WRTE":
            self._chunks.put(data)
        elif command == b"OKAY":
            self._may_write.release()
        else:
            self.closed = True
            self._chunks.put(b"")
            self._may_write.release()

    def read(self) -> bytes:
        """The next bytes, b"" when the client has closed; the client may send on after that."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        data = self._chunks.get()
        if data:
            self._connection.send(b"OKAY", self._local, self._remote)
        else:
            self._chunks.put(b"")
        return data

    def read_exactly(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            ConnectionError: the client closed the stream before them.
        """
        data, self._rest = self._rest, b""
        while len(data) < count:
            chunk = self.read()
            if not chunk:
                raise ConnectionError("the stream ended")
            data += chunk
        self._rest = data[count:]
        return data[:count]

    def write(self, data: bytes) -> None:
        """Send it all; waits for the client.

        Raises:
            ConnectionError: the stream is closed.
        """
        with self._lock:
            for start in range(0, len(data), self._connection.max_payload):
                self._may_write.acquire()
                if self.closed:
                    self._may_write.release()
                    raise ConnectionError("the stream is closed")
                chunk = data[start : start + self._connection.max_payload]
                self._connection.send(b"WRTE", self._local, self._remote, chunk)


@dataclass(frozen=True)
class Phone:
    """What the daemon was told to be."""

    environment: dict[str, str]
    unauthorized: bool
    old: bool
    cut: Cut


class Connection:
    """One client: its messages, and the streams that it opened."""

    def __init__(self, client: socket.socket, phone: Phone) -> None:
        self._client, self._phone = client, phone
        self._streams: dict[int, Stream] = {}
        self._opened = 0
        self._sending = threading.Lock()
        # What an Android 6 and older says; newer ones leave the checksums out.
        self.max_payload = 4096 if phone.old else 256 * 1024
        self._version = VERSION_CHECKSUMS if phone.old else VERSION

    def serve(self) -> None:
        """Until the client goes, the protocol is broken, or an ordered cut is due."""
        try:
            while True:
                self._handle(*self._receive())
        except (ConnectionError, OSError):
            pass
        finally:
            self._client.close()
            for stream in list(self._streams.values()):
                stream.take(b"CLSE", b"")

    def _handle(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            self._version = min(self._version, first)
            self.max_payload = min(self.max_payload, second)
            self._greet()
        elif command == b"AUTH":
            # A phone asks again for every signature it does not know, and shows its question for
            # a public key, whose answer never comes.
            if first != 3:
                self.send(b"AUTH", TOKEN, 0, os.urandom(20))
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode(errors="surrogateescape"))
        elif second in self._streams:
            self._streams[second].take(command, data)
            if command == b"CLSE":
                del self._streams[second]

    def _greet(self) -> None:
        if self._phone.unauthorized:
            self.send(b"AUTH", TOKEN, 0, os.urandom(20))
            return
        features = b"" if self._phone.old else b"features=" + FEATURES
        banner = b"device::ro.product.name=jail;ro.product.model=jail;" + features
        self.send(b"CNXN", self._version, self.max_payload, banner)

    def _open(self, remote: int, destination: str) -> None:
        name, _, argument = destination.partition(":")
        service = SERVICES.get(name.split(",")[0])
        if service is None or self._phone.unauthorized:
            self.send(b"CLSE", 0, remote)
            return
        self._opened += 1
        local = self._opened
        stream = self._streams[local] = Stream(self, local, remote)
        self.send(b"OKAY", local, remote)

        def work() -> None:
            try:
                service(stream, name.split(",")[1:], argument, self._phone.environment)
                self.send(b"CLSE", local, remote)
            except (ConnectionError, OSError):
                # The client closed the stream or went away; a service answers its own errors.
                pass
            finally:
                self._streams.pop(local, None)
                # Ends the thread that still waits for the client's next bytes.
                stream.take(b"CLSE", b"")

        threading.Thread(target=work, daemon=True).start()

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        """One message.

        Raises:
            ConnectionError, OSError: the client is gone, or the ordered cut was due.
        """
        checksum = sum(data) & 0xFFFFFFFF if self._version < VERSION else 0
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        message = HEADER.pack(command, first, second, len(data), checksum, magic) + data
        with self._sending:
            allowed = self._phone.cut.allow("sent", len(message))
            self._client.sendall(message[:allowed])
            if allowed < len(message):
                self._end("sent")

    def _receive(self) -> tuple[bytes, int, int, bytes]:
        header = self._receive_exactly(HEADER.size)
        command, first, second, length, checksum, magic = HEADER.unpack(header)
        if magic != int.from_bytes(command, "little") ^ 0xFFFFFFFF:
            raise ConnectionError("not a message of adb")
        data = self._receive_exactly(length)
        # The first message comes before the versions are agreed on, always with its checksum.
        if (self._version < VERSION or command == b"CNXN") and checksum != sum(data) & 0xFFFFFFFF:
            raise ConnectionError("wrong checksum")
        return command, first, second, data

    def _receive_exactly(self, count: int) -> bytes:
        allowed = self._phone.cut.allow("received", count)
        data = bytearray()
        while len(data) < allowed:
            chunk = self._client.recv(min(allowed - len(data), 1 << 18))
            if not chunk:
                raise ConnectionError("the client closed the connection")
            data += chunk
        if allowed < count:
            self._end("received")
        return bytes(data)

    def _end(self, direction: str) -> None:
        self._client.shutdown(socket.SHUT_RDWR)
        raise ConnectionError(f"cut after the ordered number of bytes {direction}")


def obey(orders: Callable[[], str], cut: Cut) -> None:
    """Carry out the orders until there are no more."""
    for line in iter(orders, ""):
        _, direction, count = line.split()
        cut.left[direction] = int(count)
        print("ok", flush=True)


def accept(server: socket.socket, phone: Phone) -> None:
    """Serve every client in a thread of its own."""
    while True:
        client, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(client, phone).serve, daemon=True).start()


def enter(root: str) -> None:
    """Into the jail, and out of root's rights where the process has them."""
    os.chroot(root)
    os.chdir("/")
    # An ordinary user's namespace knows one user only; that one is not root outside of it.
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setgid(SHELL_ID)
        os.setuid(SHELL_ID)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--unauthorized", action="store_true", help="never let the client in")
    parser.add_argument("--old", action="store_true", help="as Android 6: checksums, no features")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the shells")
    options = parser.parse_args()
    environment = dict(pair.split("=", 1) for pair in options.env)
    enter(options.root)
    phone = Phone(environment, options.unauthorized, options.old, Cut())
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=accept, args=(server, phone), daemon=True).start()
        obey(sys.stdin.readline, phone.cut)
    # At once: to end its threads in order Python would load a library, and the jail has none.
    os._exit(0)


if __name__ == "__main__":
    main()
