"""The link over an MQTT broker (3.1.1). The only user of paho-mqtt.

Topics, all below one prefix: `PREFIX/RECEIVER/up/SENDER`, `.../down/SENDER` and the retained
`.../status/SENDER`; a broker's access list lets each user write and read its own only
(docs/offload.md). The broker's acknowledgement says nothing about the other side.
"""

from __future__ import annotations

import queue
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tod.errors import DeviceError, UsageError
from tod.offload.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES
from tod.offload.link import check_plain
from tod.system.machine import install

PREFIX = "tod"
PORT, TLS_PORT = 1883, 8883
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WAITING = 512  # frames that arrived and were not taken
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 1, 30


@dataclass(frozen=True)
class Broker:
    """Where the broker is, and who we are there.

    Attributes:
        ca: certificate of the authority that signed the broker's; None is plain text.
        cert, key: our own certificate, if the broker wants one.
        user, password: if it wants those.
        plain: allow plain text to another machine.
    """

    host: str
    port: int
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = None
    plain: bool = False
    prefix: str = PREFIX


def check_name(name: str, what: str) -> str:
    """Refuse a name that is more than one level of a topic.

    Raises:
        UsageError: it is.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} is {name!r}, wanted letters, digits, points, hyphens (at most 64)"
        )
    return name


class MqttLink:
    """See `tod.offload.link.Link`.

    Args:
        broker: where.
        receiver: the receiver's name.
        sender: our name as a sender; None: we are the receiver.
    """

    def __init__(self, broker: Broker, receiver: str, sender: str | None) -> None:
        check_plain(broker.host, encrypted=broker.ca is not None, plain=broker.plain)
        base = f"{broker.prefix}/{check_name(receiver, 'the receiver')}"
        if sender is not None:
            check_name(sender, "the sender")
        self._base, self._sender = base, sender
        listen = f"{base}/up/+" if sender is None else f"{base}/down/{sender}"
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(_WAITING)
        self.dropped = 0
        self._client = connect(broker, listen, self._arrived)

    def _arrived(self, topic: str, payload: bytes) -> None:
        peer = topic.rpartition("/")[2] if self._sender is None else ""
        if peer and not _NAME.fullmatch(peer):
            return  # a name becomes a folder: "..", for one, is none
        try:
            self._waiting.put_nowait((peer, payload))
        except queue.Full:  # whoever floods us loses his own frames; asked for again, they come
            self.dropped += 1

    def send(self, peer: str, frame: bytes) -> None:
        topic = f"{self._base}/down/{peer}" if self._sender is None else ""
        self._publish(topic or f"{self._base}/up/{self._sender}", frame, retain=False)

    def tell(self, peer: str, status: bytes) -> None:
        self._publish(f"{self._base}/status/{peer}", status, retain=True)

    def _publish(self, topic: str, data: bytes, *, retain: bool) -> None:
        if self._client.is_connected():
            self._client.publish(topic, data, qos=1, retain=retain)

    def receive(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        try:
            return self._waiting.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def watch(broker: Broker, receiver: str, show: Callable[[str, bytes], None]) -> Any:
    """Call `show` with sender and status, first for those that are kept. Returns a client, whose
    `disconnect` and `loop_stop` end it."""
    check_plain(broker.host, encrypted=broker.ca is not None, plain=broker.plain)
    topic = f"{broker.prefix}/{check_name(receiver, 'the receiver')}/status/+"
    return connect(broker, topic, lambda found, data: show(found.rpartition("/")[2], data))


def connect(broker: Broker, topic: str, arrived: Callable[[str, bytes], None]) -> Any:
    """A client that subscribes to a topic, and comes back by itself.

    Raises:
        DeviceError: paho-mqtt is not installed, or the first connection fails.
    """
    try:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise DeviceError("paho-mqtt is not installed", hint=install("offload")) from error

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    try:
        if broker.ca is not None:
            client.tls_set(str(broker.ca), _text(broker.cert), _text(broker.key))
        client.reconnect_delay_set(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        refused: list[str] = []

        def connected(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            if reason.is_failure:
                refused.append(str(reason))
            else:
                client.subscribe(topic, qos=1)

        def message(_: Any, __: Any, found: Any) -> None:
            # A retained message on a way of frames is somebody's trap for whoever comes later.
            if len(found.payload) <= HEADER_BYTES + MAX_PAYLOAD_BYTES:
                arrived(found.topic, found.payload)

        client.on_connect, client.on_message = connected, message
        client.connect(broker.host, broker.port, keepalive=30)
    except ssl.SSLError as error:
        raise DeviceError(
            f"the broker {broker.host}:{broker.port} is not who it says, or does not take our "
            f"certificate: {error.reason or error}",
            hint="look at --ca, --cert and --key",
        ) from error
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"there is no broker at {broker.host}:{broker.port}: {error}",
            hint="start mosquitto there, or look at the address; tcp:// needs no broker",
        ) from error
    client.loop_start()
    return client


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
