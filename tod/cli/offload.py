"""The commands `tod offload send`, `receive` and `status`."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from tod.cli import options
from tod.cli.frame import EPILOG, cache_choice, listed_names, stop_requests
from tod.errors import DeviceError, UsageError
from tod.training.settings import Settings

if TYPE_CHECKING:
    from tod.offload.job import Status
    from tod.offload.link import Link
    from tod.offload.mqtt import Broker
    from tod.offload.tcp import Address

app = typer.Typer(
    no_args_is_help=True,
    epilog=EPILOG,
    help="""Train on another machine: samples go there, the trained model comes back.

    Example: tod offload receive mqtt://localhost --name workbench --allow-models models

    Example: tod offload send mqtt://localhost/workbench -f models/my.tod -d pictures -c 600
    """,
)
_TOKEN = "TOD_OFFLOAD_TOKEN"
_PASSWORD = "TOD_OFFLOAD_PASSWORD"


class Send(str, Enum):
    samples = "samples"
    features = "features"
    int8 = "int8"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Who we are, and whom we trust. Secrets stand in files or in the environment."""

    ca: Annotated[
        Path | None, typer.Option(help="Certificate of the authority that signed the other's.")
    ] = None
    cert: Annotated[Path | None, typer.Option(help="Our own certificate.")] = None
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None
    user: Annotated[
        str | None, typer.Option(help="User at the broker; the password: --password-file.")
    ] = None
    password_file: Annotated[
        Path | None, typer.Option(help=f"A file with the password, or {_PASSWORD} holds it.")
    ] = None
    token_file: Annotated[
        Path | None, typer.Option(help=f"tcp: a file with the token, or {_TOKEN} holds it.")
    ] = None
    plain: Annotated[bool, typer.Option("--plain", help="Allow plain text to another machine.")] = (
        False
    )
    prefix: Annotated[str, typer.Option(help="First level of all topics.")] = "tod"


_To = Annotated[
    str,
    typer.Argument(help="mqtt://BROKER[:PORT]/RECEIVER, mqtts://..., or tcp://RECEIVER:PORT."),
]
_At = Annotated[str, typer.Argument(help="mqtt://BROKER[:PORT], mqtts://..., or tcp://HOST:PORT.")]


@app.command("send", epilog=EPILOG)
@options.expand
def send(
    to: _To,
    model: options.Model,
    data: options.Data,
    settings: Settings,
    connection: Connection,
    what: Annotated[
        Send,
        typer.Option(
            "--send",
            metavar="<name>",
            help="samples as they are; or features of the frozen part, also in int8: no picture "
            "leaves.",
        ),
    ] = Send.samples,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    name: Annotated[
        str | None, typer.Option(help="Our name (default: the user, else this machine's).")
    ] = None,
    inputs: options.Inputs = None,
    target: options.Target = None,
    splits: options.Splits = False,
    max_seconds: Annotated[float | None, typer.Option(help="Most seconds of training.")] = None,
    silent: Annotated[
        float | None,
        typer.Option(help="Give up when nothing is heard for so many seconds.", min=1),
    ] = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    log: options.Log = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Send samples, wait for the training elsewhere, and write the trained model.

    Each sample crosses once. Whatever breaks, the same command goes on where it was.

    Example: tod offload send tcp://localhost:7410 -f my.tod -d pictures -c 600

    Example: tod offload send mqtts://broker/bench --ca ca.pem -f my.tod -d pictures -c 600
    """
    with stop_requests() as should_stop, ExitStack() as stack:
        import msgspec

        from tod.offload.arrived import take_in
        from tod.offload.sender import Sender, as_row, make_job
        from tod.report.progress import progress_bar
        from tod.runtime.model import Model, open_dataset
        from tod.system import outputs
        from tod.training import checkpoints

        _address(to)  # before anything long
        if settings.save_every is not None or settings.keep is not None:
            raise UsageError(
                "--save-every and --keep: the checkpoints are the receiver's, who saves them itself"
            )
        cache = cache_choice(cache_dir, no_cache)
        session = Model.load(model, cache=cache)
        session.choose_columns(listed_names(inputs), listed_names(target))
        place = output or checkpoints.default_output(model, session.manifest)
        outputs.check([outputs.Output("-o", place), outputs.log(log)], {"-f": model})
        dataset = open_dataset(
            data,
            session,
            seed=settings.seed,
            splits=splits,
            progress=progress_bar(stack, "read", quiet=quiet),
        )
        for notice in dataset.notices:
            print(f"notice: {notice}", file=sys.stderr)
        bar = progress_bar(stack, "prepared", quiet=quiet)
        job = make_job(session, dataset, settings, what.value, seconds=max_seconds, progress=bar)
        for text in job.left_out:
            print(f"notice: {text} was passed over", file=sys.stderr)
        records = None if log is None else stack.enter_context(log.open("a"))
        link, _ = _sender_link(to, connection, name)
        stack.callback(link.close)
        start = time.monotonic()

        def show(status: Status) -> None:
            row = msgspec.json.encode(as_row(status)).decode()
            if records is not None:
                print(row, file=records, flush=True)
            if as_json:
                print(row, flush=True)
            elif not quiet:
                print(_shown(status, job.offer.parts), flush=True)

        sender = Sender(link, job, model, show=show, should_stop=should_stop, silent_seconds=silent)
        made = sender.run()
        score = take_in(made, place, session, dataset, overwrite=overwrite)
        if as_json:
            print(msgspec.json.encode({
                "state": "taken", "path": str(place), "accuracy": score.accuracy,
                "metric": score.metric, "sent_bytes": sender.sent_bytes,
                "seconds": round(time.monotonic() - start, 3),
            }).decode())  # fmt: skip
            return
        print(f"{score.metric} on validation data here = {score.accuracy:g}")
        print(f"saved model: {place} ({sender.sent_bytes:,} bytes were sent)")


@app.command("receive", epilog=EPILOG)
@options.expand
def receive(
    at: _At,
    connection: Connection,
    allow_models: Annotated[
        Path, typer.Option(help="The folder of the .tod files that may be trained.")
    ],
    name: Annotated[str, typer.Option(help="Our name, which senders ask for.")] = "receiver",
    spool: Annotated[Path, typer.Option(help="Where samples and checkpoints are kept.")] = Path(
        "offload-spool"
    ),
    max_cycles: Annotated[int, typer.Option(help="Of one job.", min=1)] = 100_000,
    max_seconds: Annotated[float, typer.Option(help="Of one job's training.", min=1)] = 3600.0,
    max_samples: Annotated[int, typer.Option(help="Of one job.", min=1)] = 1_000_000,
    max_gb: Annotated[float, typer.Option(help="Of the spool, in 10^9 bytes.", min=0.001)] = 4.0,
    lease: Annotated[
        float, typer.Option(help="Hours after which a silent sender's job is given up.", min=0.01)
    ] = 24.0,
    threads: options.Threads = None,
    once: Annotated[bool, typer.Option("--once", help="End after one job was taken.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Take jobs, train them, and give the models back. Ctrl-C ends it; it goes on when started
    again.

    Example: tod offload receive tcp://localhost:7410 --allow-models models
    """
    with stop_requests() as should_stop, ExitStack() as stack:
        from tod.offload.allowed import Limits, check_models
        from tod.offload.receiver import Receiver

        check_models(allow_models)
        link = _receiver_link(at, connection, name)
        stack.callback(link.close)

        def say(text: str) -> None:
            if as_json:
                now = time.strftime("%Y-%m-%dT%H:%M:%S")
                print(json.dumps({"time": now, "text": text}), flush=True)
            elif not quiet:
                print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

        limits = Limits(
            allow_models, max_cycles, max_seconds, max_samples, int(max_gb * 1e9), lease * 3600
        )
        receiver = Receiver(link, spool, limits, say, threads=threads)
        say(f"listening at {at}, as {name}; models of {allow_models}; spool {spool}")
        receiver.serve(lambda: should_stop() or (once and receiver.finished > 0))


@app.command("status", epilog=EPILOG)
@options.expand
def status(
    to: _To,
    connection: Connection,
    once: Annotated[bool, typer.Option("--once", help="Show what is kept, and end.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Watch the jobs of a receiver at a broker; the last state of each is kept there.

    Example: tod offload status mqtt://localhost/workbench
    """
    with stop_requests() as should_stop:
        import msgspec

        from tod.offload.job import Status, from_json
        from tod.offload.mqtt import watch
        from tod.system.text import shown

        def show(sender: str, data: bytes) -> None:
            try:
                found = from_json(data, Status)
            except ValueError:
                print(f"notice: {shown(sender)}: a status cannot be read", file=sys.stderr)
                return
            if as_json:
                row = {"sender": sender, **msgspec.to_builtins(found)}
                print(msgspec.json.encode(row).decode(), flush=True)
            else:
                print(f"{shown(sender)}: {_shown(found, None)}", flush=True)

        scheme, broker, receiver = _broker(to, connection)
        if scheme == "tcp" or not receiver:
            raise UsageError(
                "a status is kept by a broker: wanted mqtt://BROKER/RECEIVER",
                hint="over tcp, the sender shows it",
            )
        client = watch(broker, receiver, show)
        until = time.monotonic() + 1.5
        while not should_stop() and not (once and time.monotonic() > until):
            time.sleep(0.1)
        client.disconnect()
        client.loop_stop()


def _broker(at: str, given: Connection) -> tuple[str, Broker, str]:
    from tod.offload.mqtt import PORT, TLS_PORT, Broker

    scheme, host, port, path = _address(at)
    encrypted = scheme == "mqtts"
    if encrypted and given.ca is None:
        raise UsageError("mqtts:// wants the certificate of the broker's authority: --ca FILE")
    made = Broker(
        host, port or (TLS_PORT if encrypted else PORT), given.ca if encrypted else None,
        given.cert, given.key, given.user, _secret(given.password_file, _PASSWORD), given.plain,
        given.prefix,
    )  # fmt: skip
    return scheme, made, path


def _check_tls() -> None:
    """A device package leaves TLS out of its Python, to be small."""
    try:
        import ssl  # noqa: F401
    except ImportError as error:
        raise DeviceError(
            f"this Python has no TLS, which tod offload needs: {error}",
            hint="install TOD with pip, into the system's own Python",
        ) from error


def _sender_link(to: str, given: Connection, name: str | None) -> tuple[Link, str]:
    _check_tls()
    import platform

    from tod.offload.mqtt import MqttLink
    from tod.offload.tcp import TcpSender

    chosen = name or given.user or platform.node() or "sender"
    if _address(to)[0] == "tcp":
        return TcpSender(_tcp(to, given), chosen), chosen
    _, found, receiver = _broker(to, given)
    if not receiver:
        raise UsageError(f"{to}: which receiver? mqtt://BROKER/RECEIVER")
    return MqttLink(found, receiver, chosen), chosen


def _receiver_link(at: str, given: Connection, name: str) -> Link:
    _check_tls()
    from tod.offload.mqtt import MqttLink
    from tod.offload.tcp import TcpReceiver

    if _address(at)[0] == "tcp":
        return TcpReceiver(_tcp(at, given))
    return MqttLink(_broker(at, given)[1], name, None)


def _tcp(at: str, given: Connection) -> Address:
    from tod.offload.tcp import PORT, Address

    _, host, port, _ = _address(at)
    token = _secret(given.token_file, _TOKEN) or ""
    return Address(
        host, port or PORT, token, given.ca, given.cert, given.key, given.plain
    )  # fmt: skip


def _address(at: str) -> tuple[str, str, int | None, str]:
    try:
        found = urlsplit(at)
        port = found.port
    except ValueError as error:
        raise UsageError(f"{at}: it is no address: {error}") from error
    if found.scheme not in ("mqtt", "mqtts", "tcp") or not found.hostname or found.password:
        raise UsageError(
            f"{at}: wanted mqtt://BROKER, mqtts://BROKER or tcp://HOST:PORT",
            hint="a password stands in a file: --password-file",
        )
    return found.scheme, found.hostname, port, found.path.strip("/")


def _secret(path: Path | None, variable: str) -> str | None:
    if path is None:
        return os.environ.get(variable)
    from tod.system.files import read_regular

    try:
        data, _ = read_regular(path, limit_bytes=1 << 16)
        return data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the secret cannot be read: {error}") from error


def _shown(status: Status, parts: int | None) -> str:
    if status.state == "receiving":
        return f"receiving: {status.parts:,}{'' if parts is None else f' of {parts:,}'} samples"
    if status.state != "training" or status.train_loss is None:
        return f"{status.state}{f': {status.text}' if status.text else ''}"

    def number(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}"

    return (
        f"{status.cycle}: loss {number(status.train_loss)}, test {number(status.validation_loss)}; "
        f"accuracy {number(status.train_accuracy)}, test {number(status.validation_accuracy)}; "
        f"{status.seconds:.1f} s"
    )
