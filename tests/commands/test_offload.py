"""`tod offload`: real processes over a real broker and over TCP, killed at any moment."""

import hashlib
import json
import random
import re
import shutil
import socket
import time
from contextlib import suppress

import pytest

from tests.support.offloading import (
    TOKEN,
    Broker,
    Peer,
    free_port,
    needs_mosquitto,
    receive,
    send,
    write_data,
)
from tests.support.waiting import wait_until
from tod.format import artifact as artifacts
from tod.offload import frames
from tod.offload.frames import NO_JOB, Frame, Kind
from tod.offload.job import Offer, job_of, to_json


@pytest.fixture
def tcp(place, peers):
    """A receiver over TCP, and its address."""
    at = f"tcp://127.0.0.1:{free_port()}"
    peers.append(receive(place, at))
    wait_until(lambda: "listening" in peers[0].text)
    return at


def undisturbed(place, peers, at, *more, **options):
    one = send(place, at, *more, **options)
    peers.append(one)
    assert one.wait() == 0, one.text
    return one


def test_there_and_back(place, peers, tcp):
    done = undisturbed(place, peers, tcp, "--log", "status.jsonl")
    assert "receiving: 300 of 300 samples" in done.text
    assert float(re.search(r"validation data here = ([\d.]+)", done.text)[1]) > 0.6
    found = artifacts.read(place / "out.tod")
    assert found.graphs == artifacts.read(place / "models" / "samples.tod").graphs
    assert found.manifest.class_names == ("0", "1", "2")
    rows = [json.loads(line) for line in (place / "status.jsonl").read_text().splitlines()]
    tested = [row for row in rows if "train_loss" in row]
    assert [row["cycle"] for row in tested][:3] == [100, 200, 300]
    for row in tested:
        assert 0 <= row["train_accuracy"] <= 1
        assert 0 <= row["validation_accuracy"] <= 1
        assert row["train_loss"] > 0
        assert row["validation_loss"] > 0
    assert tested[-1]["train_loss"] < tested[0]["train_loss"]


def test_each_sample_crosses_once(place, peers, tcp):
    """16 bytes of numbers, 64 of header, and the list; whatever the number of epochs."""
    done = undisturbed(place, peers, tcp, cycles=900)
    sent = int(re.search(r"\(([\d,]+) bytes were sent\)", done.text)[1].replace(",", ""))
    assert 300 * 80 < sent < 300 * (80 + 70) + 2000


def test_the_same_job_is_done_once(place, peers, tcp):
    undisturbed(place, peers, tcp)
    first = (place / "out.tod").read_bytes()
    again = undisturbed(place, peers, tcp, out="again.tod")
    assert (place / "again.tod").read_bytes() == first
    assert "training" not in again.text.split("saved model")[1].split("saved model")[0]
    assert peers[0].text.count("cycles of samples.tod") == 1


@pytest.mark.parametrize("what", ["features", "int8"])
def test_features_instead_of_samples(place, peers, tcp, what):
    undisturbed(place, peers, tcp)
    whole = artifacts.read(place / "out.tod")
    done = undisturbed(place, peers, tcp, "--send", what, out=f"{what}.tod")
    found = artifacts.read(place / f"{what}.tod")
    assert found.graphs == whole.graphs
    assert float(re.search(r"validation data here = ([\d.]+)", done.text)[1]) > 0.6


def test_an_earlier_model_stays_as_a_generation(place, peers, tcp):
    undisturbed(place, peers, tcp)
    undisturbed(place, peers, tcp, "--seed", 1)
    assert list((place / "out.tod.generations").glob("*.tod"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "cycles are wanted, at most 50 are allowed"),
        (("-c", "20"), "the model"),
    ],
)
def test_what_the_owner_does_not_allow_is_refused(place, peers, options, said):
    at = f"tcp://127.0.0.1:{free_port()}"
    (place / "allowed").mkdir()
    shutil.copy(place / "models" / "samples.tod", place / "allowed")
    if options:
        (place / "allowed" / "samples.tod").unlink()
        shutil.copy(place / "models" / "samples.tod", place / "allowed" / "x.tod")
        data = (place / "allowed" / "x.tod").read_bytes()
        (place / "allowed" / "x.tod").write_bytes(data[:-1])
    peers.append(
        Peer(
            place, "receive", at, "--allow-models", "allowed", "--max-cycles", 50, log="receive.log"
        )
    )
    wait_until(lambda: "listening" in peers[0].text)
    done = send(place, at, *options)
    peers.append(done)
    assert done.wait() == 3
    assert "the receiver refused the job" in done.text
    assert said in done.text
    assert not list((place / "offload-spool").glob("*/*"))


def killed_at_random(place, peers, at, kills, seed, broker=None):
    """Kill receiver, sender or broker again and again until the model is there."""
    draws = random.Random(seed)
    receiver, sender = receive(place, at), send(place, f"{at}/bench" if broker else at, out="k.tod")
    peers += [receiver, sender]
    done = 0
    while done < kills or not sender.ended:
        if done >= kills:
            assert sender.wait(180) == 0, sender.text
            break
        time.sleep(draws.uniform(0.05, 1.6))
        if sender.ended and sender.wait() == 0:
            # Too fast for this number of kills: the job is asked for again.
            (place / "k.tod").unlink()
            sender = send(place, f"{at}/bench" if broker else at, out="k.tod")
            peers.append(sender)
        which = draws.choice(["receiver", "sender"] + (["broker"] if broker else []))
        if which == "receiver":
            receiver.kill()
            receiver = receive(place, at)
            peers.append(receiver)
        elif which == "sender":
            sender.kill()
            sender = send(place, f"{at}/bench" if broker else at, out="k.tod")
            peers.append(sender)
        else:
            broker.kill()
            broker.start()
        done += 1
    assert sender.wait(180) == 0, sender.text
    return receiver


@pytest.fixture
def broker(tmp_path):
    made = Broker(tmp_path / "broker")
    yield made
    made.kill()


@needs_mosquitto
def test_over_a_broker_with_a_status_that_stays(place, peers, broker):
    at = f"mqtt://127.0.0.1:{broker.port}"
    peers.append(receive(place, at))
    wait_until(lambda: "listening" in peers[0].text)
    undisturbed(place, peers, f"{at}/bench")
    watching = Peer(place, "status", f"{at}/bench", "--once", "--json", log="status.log")
    assert watching.wait() == 0
    told = json.loads(watching.text)
    assert (told["sender"], told["state"]) == ("phone", "done")


@needs_mosquitto
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.long)])
def test_kills_change_nothing(place, peers, broker, kills):
    """Receiver, sender and broker; the trained bytes are those of an undisturbed run."""
    at = f"mqtt://127.0.0.1:{broker.port}"
    receiver = killed_at_random(place, peers, at, kills, seed=kills, broker=broker)
    first = (place / "k.tod").read_bytes()
    receiver.stop()
    shutil.rmtree(place / "offload-spool")
    peers.append(receive(place, at))
    undisturbed(place, peers, f"{at}/bench")
    assert (place / "out.tod").read_bytes() == first


def test_one_receiver_has_a_spool(place, peers, tcp):
    second = receive(place, f"tcp://127.0.0.1:{free_port()}")
    peers.append(second)
    assert second.wait() == 2
    assert "another receiver works in this spool" in second.text


def test_a_job_that_failed_is_tried_again(place, peers, tcp):
    """The owner's disk was in the way; the same command then does it."""
    first = send(place, tcp, cycles=3000)
    peers.append(first)
    wait_until(lambda: list((place / "offload-spool").glob("phone/*/parts")))
    (job,) = (place / "offload-spool" / "phone").iterdir()
    (job / "result").mkdir()  # so that it cannot be written
    assert first.wait() == 3
    assert "the receiver could not train: " in first.text
    (job / "result").rmdir()
    undisturbed(place, peers, tcp, cycles=3000)
    assert "is tried again" in peers[0].text


def test_what_is_damaged_on_the_disk_is_asked_for_again(place, peers, tcp):
    undisturbed(place, peers, tcp)
    wanted = (place / "out.tod").read_bytes()
    peers[0].stop()
    (job,) = (place / "offload-spool" / "phone").iterdir()
    assert {path.name for path in job.iterdir()} == {"offer.json", "result", "done"}
    (job / "result").unlink()
    (job / "done").unlink()
    (job / "index").write_bytes(b"damaged")
    (job / "parts").write_bytes(b"damaged")
    (job.parent / "00").mkdir()
    (job.parent / "00" / "offer.json").write_text("{}")
    peers.append(receive(place, tcp))
    undisturbed(place, peers, tcp, out="again.tod")
    assert (place / "again.tod").read_bytes() == wanted
    assert "00 is left alone" in peers[0].text


def hello(token):
    said = json.dumps({"name": "phone", "token": token}).encode()
    return frames.encode(Frame(Kind.HELLO, NO_JOB, 0, said))


def test_hostile_peers_get_nothing_in(place, peers, tcp):
    """Without the token nothing is read; with it, mutated frames are thrown away and named."""
    port = int(tcp.rpartition(":")[2])
    draws = random.Random(0)
    good = frames.encode(Frame(Kind.OFFER, bytes(16), 0, b'{"schema": 1}'))

    def connection(first):
        made = socket.create_connection(("127.0.0.1", port), 10)
        made.sendall(first)
        return made

    for first in (b"GET / HTTP/1.1\r\n\r\n" * 8, hello("wrong"), bytes(64), good, b"\xff" * 200):
        with connection(first) as made:
            made.settimeout(15)
            with suppress(ConnectionResetError):  # it hangs up, in one way or the other
                assert made.recv(1) == b""
    made = connection(hello(TOKEN["TOD_OFFLOAD_TOKEN"]))
    for _ in range(2000):
        changed = bytearray(good)
        changed[draws.choice([5, *range(8, 24), *range(64, len(good))])] = draws.randrange(256)
        try:
            made.sendall(bytes(changed))
        except OSError:
            made = connection(hello(TOKEN["TOD_OFFLOAD_TOKEN"]))
    made.close()
    wait_until(lambda: "frames were thrown away" in peers[0].text)
    assert not list((place / "offload-spool").glob("*/*"))
    assert peers[0].text.count("\n") < 30  # a flood does not fill the log
    undisturbed(place, peers, tcp)


@needs_mosquitto
def test_a_name_that_leads_out_of_the_spool_is_not_heard(place, peers, broker):
    """At a broker that lets anybody write anything."""
    from paho.mqtt import publish

    at = f"mqtt://127.0.0.1:{broker.port}"
    peers.append(receive(place, at))
    wait_until(lambda: "listening" in peers[0].text)
    model = hashlib.sha256((place / "models" / "samples.tod").read_bytes()).hexdigest()
    offer = Offer(1, model, "0" * 64, 100, 3, 48, "samples", {"cycles": 10})
    frame = frames.encode(Frame(Kind.OFFER, job_of(offer), 0, to_json(offer)))
    for name in ("..", ".", "a b", "phone"):
        publish.single(f"tod/bench/up/{name}", frame, qos=1, hostname="127.0.0.1", port=broker.port)
    wait_until(lambda: "phone: job" in peers[0].text)
    assert [path.name for path in (place / "offload-spool").glob("[!.]*")] == ["phone"]
    assert not [path for path in place.iterdir() if path.name == job_of(offer).hex()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("send", "mqtt://example.org/x"), "not encrypted"),
        (("send", "mqtts://example.org/x"), "--ca FILE"),
        (("send", "ftp://x"), "wanted mqtt://BROKER"),
        (("send", "mqtt://u:p@localhost/x"), "a password stands in a file"),
        (("send", "mqtt://localhost"), "which receiver?"),
        (("send", "tcp://127.0.0.1:1"), "no receiver answers"),
        (("send", "mqtt://127.0.0.1:1/x"), "there is no broker"),
    ],
)
def test_addresses_that_are_refused(place, call, arguments, said):
    options = ("-f", "models/samples.tod", "-d", "data.npz", "-c", 10)
    done = call("tod", "offload", *arguments, *options, cwd=place)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_receiver_wants_a_token_and_models(place, call, monkeypatch):
    monkeypatch.delenv("TOD_OFFLOAD_TOKEN", raising=False)
    at = f"tcp://127.0.0.1:{free_port()}"
    done = call("tod", "offload", "receive", at, "--allow-models", "models", cwd=place)
    assert done.returncode == 2
    assert "a receiver wants a token" in done.stderr
    (place / "empty").mkdir()
    done = call("tod", "offload", "receive", at, "--allow-models", "empty", cwd=place)
    assert done.returncode == 3
    assert "it holds no .tod file" in done.stderr


def test_a_sender_gives_up_when_nothing_is_heard(place, peers):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        done = send(place, at, "--silent", 2)
        peers.append(done)
        assert done.wait() == 5
        assert "nothing was heard of the receiver for 2 seconds" in done.text


def test_other_data_are_another_job(place, peers, tcp):
    undisturbed(place, peers, tcp)
    write_data(place / "data.npz", seed=1)
    undisturbed(place, peers, tcp, out="other.tod")
    assert peers[0].text.count("cycles of samples.tod") == 2


def test_every_setting_of_training_goes_along(place, peers, tcp):
    """By the names of the settings' table; what is not in it is refused by the receiver."""
    options = ("--init", "ridge", "-b", 16, "--schedule", "cosine", "--lr", 0.005)
    undisturbed(place, peers, tcp, *options)
    run = artifacts.read(place / "out.tod").manifest.history[-1]
    assert (run.batch_size, run.lr, run.schedule) == (16, 0.005, "cosine")
    done = send(place, tcp, "-s", 20)
    peers.append(done)
    assert done.wait() == 2
    assert "the checkpoints are the receiver's" in done.text
