"""The server under load: against FastAPI with torch, and against decoding and the network alone.

    python bench/serve.py RUN PICTURES [--seconds 10] [--rounds 3] [--clients 1,8,64,256] [--memory 50000]

`headstart serve`, a straightforward FastAPI handler with the same model in torch (bench/plain_server.py), and the bare
work (decode, resize, network, on all cores, no server) take turns; each server runs alone while it is measured, and
the clients share its machine. Then memory over `--memory` requests, and overload. Writes its section of
bench/RESULTS.md.
"""

import argparse
import contextlib
import itertools
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from headstart.delivery import artefact
from headstart.parallel import core_count, in_order
from headstart.pictures.decode import decode
from load import Outcome, ask, form_request
from results import machine, record, table

HERE = Path(__file__).parent
PLAIN_PORT = 18_431
WARM_UP = 64  # requests before anything is measured


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,64,256")
    parser.add_argument("--memory", type=int, default=50_000, help="requests over which memory is watched; 0: none")
    parser.add_argument("--batch", type=int, help="the server's --batch")
    parser.add_argument("--batch-wait", type=float, help="the server's --batch-wait, in milliseconds")
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


@dataclass(frozen=True)
class Running:
    """A server that answers: its port, and its processes."""

    port: int
    process: psutil.Process

    @property
    def megabytes(self) -> float:
        """Resident memory of the server and its workers."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) / 1e6

    @property
    def cpu_seconds(self) -> float:
        """Of the server and its workers, so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in family)


@contextlib.contextmanager
def running(command: list[str], port: int | None = None) -> Iterator[Running]:
    """A server's process; without a port, its first line names it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if port is None:
            line = process.stdout.readline()
            port = int(re.search(r":(\d+)/", line).group(1))
        wait_for(port)
        yield Running(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def ours(run: Path, *options: str) -> contextlib.AbstractContextManager[Running]:
    return running([sys.executable, "-m", "headstart", "serve", str(run), "--port", "0", *options])


def plain(run: Path) -> contextlib.AbstractContextManager[Running]:
    folder = artefact.find(run)
    command = [sys.executable, str(HERE / "plain_server.py"), str(folder), "--port", str(PLAIN_PORT)]
    return running(command, PLAIN_PORT)


def floor(predictor, files: list[bytes], seconds: float) -> float:
    """Pictures a second of decode, resize and network, on all cores, with nothing around them."""
    preprocess = predictor.classifier.backbone.preprocess

    def one(data: bytes) -> None:
        predictor.engine.embed(preprocess.apply(decode(data, at_least=preprocess.at_least).pixels)[None])

    started, count = time.perf_counter(), 0
    with ThreadPoolExecutor(core_count()) as pool:
        endless = itertools.takewhile(lambda _: time.perf_counter() - started < seconds, itertools.cycle(files))
        for _ in in_order(pool, one, endless, 4 * core_count()):
            count += 1
    return count / (time.perf_counter() - started)


def compete(args: argparse.Namespace, files: list[bytes], clients: list[int], options: list[str]) -> str:
    requests = [form_request(data) for data in files]
    predictor = artefact.load(args.run, "cpu")
    floors: list[float] = []
    seen: dict[tuple[str, int], list[Outcome]] = {}
    floor(predictor, files, 1)
    for _ in range(args.rounds):
        floors.append(floor(predictor, files, args.seconds))
        for name, server in (("headstart", ours(args.run, *options)), ("FastAPI + torch", plain(args.run))):
            with server as up:
                ask(up.port, requests, 8, count=WARM_UP)
                for number in clients:
                    before = up.cpu_seconds
                    outcome = ask(up.port, requests, number, seconds=args.seconds)
                    print(f"{name}, {number} clients: {outcome.rate:.1f}/s {dict(outcome.statuses)}", end=" ")
                    print(f"{1000 * (up.cpu_seconds - before) / max(1, len(outcome.latencies)):.2f} ms CPU each")
                    seen.setdefault((name, number), []).append(outcome)
    rows = []
    for number in clients:
        for name in ("headstart", "FastAPI + torch"):
            rows.append([str(number), name, *_cells(seen[name, number], floors)])
    header = ["clients", "server", "requests / s", "p50, ms", "p95", "p99", "share of the floor", "not 200"]
    least, most = min(floors), max(floors)
    text = f"Decode, resize and network alone, on all cores: {statistics.median(floors):.0f} pictures a second "
    return text + f"({least:.0f} to {most:.0f}).\n\n{table(header, rows)}"


def _cells(outcomes: list[Outcome], floors: list[float]) -> list[str]:
    rates = [one.rate for one in outcomes]
    shares = [rate / bare for rate, bare in zip(rates, floors, strict=True)]
    quantiles = [statistics.median(one.quantile(share) for one in outcomes) for share in (0.5, 0.95, 0.99)]
    failed = sum(sum(one.statuses.values()) - one.statuses[200] for one in outcomes)
    return [
        f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})",
        *(f"{value:.0f}" for value in quantiles),
        f"{statistics.median(shares):.2f}",
        str(failed),
    ]


def remember(args: argparse.Namespace, files: list[bytes], options: list[str]) -> str:
    """Memory over many requests: after the first tenth it should stay where it is."""
    requests = [form_request(data) for data in files]
    tenth = max(1, args.memory // 10)
    with ours(args.run, *options) as up:
        sizes = [up.megabytes]
        for _ in range(10):
            ask(up.port, requests, 16, count=tenth)
            sizes.append(up.megabytes)
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    return f"Memory in MB at the start and after each tenth of {args.memory:,} requests from 16 clients: {shown}."


def overload(args: argparse.Namespace, files: list[bytes]) -> str:
    """More than the server takes on: refusals, and whether it is itself again at once."""
    requests = [form_request(data) for data in files]
    with ours(args.run, "--queue", "16", "--max-files", "16") as up:
        ask(up.port, requests, 8, count=WARM_UP)
        crowded = ask(up.port, requests, 256, seconds=args.seconds)
        after = ask(up.port, requests, 1, count=20)
    statuses = crowded.statuses
    other = sum(statuses.values()) - statuses[200] - statuses[503]
    return (
        f"Overload, 256 clients at a queue of 16: {crowded.rate:.0f} answers a second with p99 "
        f"{crowded.quantile(0.99):.0f} ms, {statuses[503]} refusals with 503, {other} broken connections or answers of "
        "any other kind. Right after "
        f"it {after.statuses[200]} of 20 requests are answered, p50 {after.quantile(0.5):.0f} ms."
    )


def main() -> None:
    args = parse()
    clients = [int(number) for number in args.clients.split(",")]
    files = [path.read_bytes() for path in sorted(args.pictures.rglob("*.jpg"))[:400]]
    options = ["--workers", str(args.workers)]
    options += [] if args.batch is None else ["--batch", str(args.batch)]
    options += [] if args.batch_wait is None else ["--batch-wait", str(args.batch_wait)]
    parts = [
        f"`python bench/serve.py {args.run.name} {args.pictures.name} --seconds {args.seconds:g} "
        f"--rounds {args.rounds}`: {machine()}. {len(files)} pictures of "
        f"{statistics.mean(map(len, files)) / 1000:.0f} KB; medians of {args.rounds} rounds; options of the server: "
        f"{' '.join(options)}.",
        compete(args, files, clients, options),
        overload(args, files),
    ]
    if args.memory:
        parts.append(remember(args, files, options))
    record(f"Server: {args.pictures.name}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
