"""The link without a broker: one TCP connection for each sender, with TLS.

A sender says its name and the receiver's token first; the token proves nothing to a listener, so
it travels only inside TLS, or on the machine itself.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tod.errors import DeviceError, UsageError
from tod.offload import frames
from tod.offload.frames import HEADER_BYTES, NO_JOB, Frame, FrameError, Kind
from tod.offload.link import check_plain
from tod.offload.mqtt import check_name

PORT = 7410
_WAITING = 256
_HELLO_SECONDS, _IDLE_SECONDS = 10.0, 600.0
_MOST_PEERS = 64
_RETRY_SECONDS = 1.0
_STALLED_SECONDS = 30.0


@dataclass(frozen=True)
class Address:
    """Where the receiver listens.

    Attributes:
        ca: of the authority that both sides trust; cert and key are our own.
        token: that a sender has to know.
        plain: allow plain text to another machine.
    """

    host: str
    port: int
    token: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    plain: bool = False


class TcpSender:
    """The sender's end, see `tod.offload.link.Link`. Connects again by itself."""

    def __init__(self, address: Address, name: str) -> None:
        check_plain(address.host, encrypted=address.ca is not None, plain=address.plain)
        self._address, self._name = address, check_name(name, "the sender")
        self._context = None
        if address.ca is not None:
            self._context = _tls(ssl.create_default_context(cafile=str(address.ca)), address)
        self._wire: _Wire | None = None
        self._last_try = 0.0
        self._connect()
        if self._wire is None:
            raise DeviceError(
                f"no receiver answers at {address.host}:{address.port}: {self._problem}",
                hint="start 'tod offload receive' there, or look at the address",
            )

    def _connect(self) -> None:
        self._last_try = time.monotonic()
        try:
            made = socket.create_connection((self._address.host, self._address.port), 10)
            if self._context is not None:
                made = self._context.wrap_socket(made, server_hostname=self._address.host)
            hello = json.dumps({"name": self._name, "token": self._address.token}).encode()
            wire = _Wire(made)
            wire.write(frames.encode(Frame(Kind.HELLO, NO_JOB, 0, hello)))
            self._wire = wire
        except OSError as error:
            self._problem = str(error)
            self._wire = None

    def send(self, peer: str, frame: bytes) -> None:
        if self._wire is None and time.monotonic() - self._last_try > _RETRY_SECONDS:
            self._connect()
        if self._wire is not None:
            try:
                self._wire.write(frame)
            except OSError:
                self.close()

    def receive(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        if self._wire is None:
            time.sleep(min(timeout_seconds, _RETRY_SECONDS))
            return None
        try:
            return "", self._wire.read(timeout_seconds)
        except TimeoutError:
            return None
        except (OSError, FrameError):
            self.close()
            return None

    def tell(self, peer: str, status: bytes) -> None:
        """A sender has no status to tell."""

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None


class TcpReceiver:
    """The receiver's end, see `tod.offload.link.Link`; listens until it is closed."""

    def __init__(self, address: Address) -> None:
        check_plain(address.host, encrypted=address.cert is not None, plain=address.plain)
        if not address.token:
            raise UsageError(
                "a receiver wants a token that its senders know",
                hint="put it into a file: --token-file FILE, or into TOD_OFFLOAD_TOKEN",
            )
        self._address = address
        self._context = None
        if address.cert is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if address.ca is not None:
                context.load_verify_locations(str(address.ca))
                context.verify_mode = ssl.CERT_REQUIRED
            self._context = _tls(context, address)
        try:
            self._server = socket.create_server((address.host, address.port), backlog=16)
        except OSError as error:
            raise DeviceError(f"{address.host}:{address.port}: {error}") from error
        self.port = int(self._server.getsockname()[1])
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(_WAITING)
        self._peers: dict[str, _Wire] = {}
        self._lock = threading.Lock()
        self._open = 0
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._server.accept()
            except OSError:
                return  # closed
            with self._lock:
                full = self._open >= _MOST_PEERS
                self._open += not full
            if full:
                made.close()
                continue
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        name, wire = "", None
        try:
            connection.settimeout(_HELLO_SECONDS)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            wire = _Wire(connection)
            name = self._hello(frames.decode(wire.read(_HELLO_SECONDS)))
            with self._lock:
                self._peers[name] = wire
            while True:
                # A full queue stops reading, and so the sender.
                self._waiting.put((name, wire.read(_IDLE_SECONDS)))
        except (OSError, ValueError):
            if not name:
                self.refused += 1
        finally:
            with self._lock:
                self._open -= 1
                if wire is not None and self._peers.get(name) is wire:
                    del self._peers[name]
            with contextlib.suppress(OSError):
                connection.close()

    def _hello(self, frame: Frame) -> str:
        said = json.loads(frame.payload) if frame.kind is Kind.HELLO else None
        if not isinstance(said, dict) or not isinstance(said.get("token"), str):
            raise FrameError("it does not say who it is")
        if not hmac.compare_digest(said["token"].encode(), self._address.token.encode()):
            raise FrameError("its token is wrong")
        try:
            return check_name(str(said.get("name")), "the sender")
        except UsageError as error:
            raise FrameError(error.problem) from error

    def send(self, peer: str, frame: bytes) -> None:
        with self._lock:
            wire = self._peers.get(peer)
        if wire is not None:
            with contextlib.suppress(OSError):
                wire.write(frame)

    def receive(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        try:
            return self._waiting.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def tell(self, peer: str, status: bytes) -> None:
        """The peer gets it as a frame; nobody else can watch this link."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.close()
        with self._lock:
            peers = list(self._peers.values())
        for wire in peers:
            wire.close()


class _Wire:
    """A connection for whole frames. One thread may read while another writes: TLS allows only one
    of both at a time, so reading waits outside of the lock."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        connection.settimeout(_STALLED_SECONDS)

    def write(self, data: bytes) -> None:
        """Raises:
        OSError: the connection ended, or nobody reads.
        """
        with self._lock:
            self._connection.sendall(data)

    def read(self, timeout_seconds: float) -> bytes:
        """One frame; nothing is read that is not promised by a header.

        Raises:
            TimeoutError: none began in time.
            OSError: the connection ended.
            FrameError: what came is none.
        """
        self._wait(timeout_seconds)
        data = bytearray()
        try:
            self._fill(data, HEADER_BYTES)
            self._fill(data, HEADER_BYTES + frames.length(bytes(data)))
        except TimeoutError as error:
            raise ConnectionError("it stopped within a frame") from error
        return bytes(data)

    def _fill(self, data: bytearray, size: int) -> None:
        while len(data) < size:
            self._wait(_STALLED_SECONDS)
            with self._lock:
                part = self._connection.recv(min(size - len(data), 1 << 18))
            if not part:
                raise ConnectionError("the connection ended")
            data += part

    def _wait(self, timeout_seconds: float) -> None:
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return
        if not select.select([self._connection], [], [], timeout_seconds)[0]:
            raise TimeoutError

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._connection.close()


def _tls(context: ssl.SSLContext, address: Address) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.cert is not None:
        try:
            context.load_cert_chain(str(address.cert), _key(address.key))
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--cert {address.cert}: it cannot be used: {error}") from error
    return context


def _key(path: Path | None) -> str | None:
    return None if path is None else str(path)
