"""`tod offload` with TLS: an own authority, certificates on both sides, over TCP and MQTT."""

import re
import subprocess

import pytest

from tests.conftest import ROOT
from tests.support.certificates import Authority
from tests.support.offloading import Broker, free_port, needs_mosquitto, receive, send
from tests.support.waiting import wait_until


@pytest.fixture
def authority(place):
    return Authority(place)


def options(authority, name):
    cert, key = authority.certificate(name)
    return ("--ca", authority.file, "--cert", cert, "--key", key)


def test_both_sides_know_each_other(place, peers, authority):
    at = f"tcp://127.0.0.1:{free_port()}"
    peers.append(receive(place, at, *options(authority, "server")))
    wait_until(lambda: "listening" in peers[0].text)
    good = send(place, at, *options(authority, "phone"))
    peers.append(good)
    assert good.wait() == 0, good.text


@pytest.mark.parametrize("fault", ["no certificate", "another authority", "plain"])
def test_strangers_are_not_let_in(place, peers, authority, fault):
    at = f"tcp://127.0.0.1:{free_port()}"
    peers.append(receive(place, at, *options(authority, "server")))
    wait_until(lambda: "listening" in peers[0].text)
    other = Authority(place, "other")
    given = {
        "no certificate": ("--ca", authority.file),
        "another authority": options(other, "stranger"),
        "plain": (),
    }[fault]
    stranger = send(place, at, *given, "--silent", 4)
    peers.append(stranger)
    assert stranger.wait() != 0
    assert "Traceback" not in stranger.text
    assert not list((place / "offload-spool").glob("*/*"))


@needs_mosquitto
def test_over_a_broker_with_certificates_and_its_access_list(place, peers, authority):
    """Each user writes and reads his own topics only; the receiver all of its own."""
    cert, key = authority.certificate("server")
    (place / "acl").write_text(
        "user bench\ntopic readwrite tod/bench/#\npattern write tod/+/up/%u\n"
        "pattern read tod/+/down/%u\n"
    )
    lines = (
        f"cafile {authority.file}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\n"
        f"use_identity_as_username true\nacl_file {place / 'acl'}\n"
    )
    broker = Broker(place / "broker", lines)
    try:
        at = f"mqtts://127.0.0.1:{broker.port}"
        peers.append(receive(place, at, *options(authority, "bench")))
        wait_until(lambda: "listening" in peers[0].text)
        good = send(place, f"{at}/bench", *options(authority, "phone"))
        peers.append(good)
        assert good.wait() == 0, good.text
        # Somebody else under the name of the phone is not heard.
        liar = send(place, f"{at}/bench", *options(authority, "liar"), "--silent", 5, out="x.tod")
        peers.append(liar)
        assert liar.wait() == 5
        # A stranger does not come in at all.
        strange = send(place, f"{at}/bench", "--ca", authority.file, "--silent", 5, out="y.tod")
        peers.append(strange)
        assert strange.wait() == 5, strange.text
        assert "Traceback" not in liar.text + strange.text
    finally:
        broker.kill()


def test_the_certificate_that_the_page_makes(place, peers):
    """docs/offload.md: the receiver is its own authority, the token tells its senders."""
    page = (ROOT / "docs" / "offload.md").read_text()
    (made,) = re.findall(r"```sh\n( *openssl .*?)```", page, re.S)
    made = made.replace("DNS:pi.local", "IP:127.0.0.1")
    subprocess.run(["sh", "-ec", made], cwd=place, check=True, capture_output=True)
    at = f"tcp://127.0.0.1:{free_port()}"
    receiver = ("--cert", "pi.pem", "--key", "pi.key", "--token-file", "token")
    peers.append(receive(place, at, *receiver))
    wait_until(lambda: "listening" in peers[0].text)
    good = send(place, at, "--ca", "pi.pem", "--token-file", "token")
    peers.append(good)
    assert good.wait() == 0, good.text
    # The token of the environment is another one.
    stranger = send(place, at, "--ca", "pi.pem", "--silent", 4, out="x.tod")
    peers.append(stranger)
    assert stranger.wait() == 5
    assert not (place / "x.tod").exists()
