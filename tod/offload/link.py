"""A link carries frames between a sender and a receiver. It may lose, repeat and reorder them.

What arrives is only bytes from somebody: the peers check everything themselves
(`tod.offload.sender`, `tod.offload.receiver`).
"""

from __future__ import annotations

import ipaddress
from typing import Protocol

from tod.errors import UsageError


class Link(Protocol):
    """The way to the other side. `send` and `tell` may be called from several threads; `receive`
    from one only."""

    def send(self, peer: str, frame: bytes) -> None:
        """Send a frame; without a connection it is dropped.

        Args:
            peer: the sender's name; "" is the receiver.
            frame: encoded.
        """

    def receive(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """The next frame and who sent it; None if none comes in time."""

    def tell(self, peer: str, status: bytes) -> None:
        """Publish a status for whoever watches, and keep the last one where the link can."""

    def close(self) -> None: ...


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_plain(host: str, *, encrypted: bool, plain: bool) -> None:
    """Refuse to send anything in plain text over a network unless that was asked for.

    Raises:
        UsageError: it was not.
    """
    if not (encrypted or plain or is_loopback(host)):
        raise UsageError(
            f"{host} is another machine, and this link is not encrypted",
            hint="give the certificate of its authority with --ca, or --plain on a network of "
            "your own",
        )
