"""An S3 server (moto's) and a small web server on loopback, which fail as they are told to; and shards to put there."""

import base64
import http.client
import io
import json
import socket
import tarfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

BUCKET = "pictures"


@dataclass
class Faults:
    """What a server does wrong: `plan` has, for the end of a path, the faults of the next requests for its content.

    `error` is a 500, `busy` a 503, `denied` a 403, `reset` closes the connection at once, `cut` after half of the bytes
    that were announced, `short` announces half of them, `garbled` (S3 only) sends others, which their checksum tells,
    `slow` waits before the body; "" is no fault. `always` is the fault of every request. `asked` counts requests as
    "GET path".
    """

    plan: dict[str, list[str]] = field(default_factory=dict)
    always: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    slow_seconds: float = 3.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> str:
        with self.lock:
            self.asked[f"{method} {path}"] += 1
            if self.always:
                return self.always
            if method != "GET":
                return ""
            for ending, faults in self.plan.items():
                if path.endswith(ending) and faults:
                    return faults.pop(0)
        return ""

    def clear(self) -> None:
        """Do nothing wrong from now on, and count anew."""
        self.plan, self.always, self.asked = {}, "", Counter()

    def reads(self, ending: str = "") -> int:
        """How often something was read whose path ends so."""
        return sum(n for one, n in self.asked.items() if one.startswith("GET") and one.endswith(ending))


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _application(inner, faults: Faults):
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        fault = "" if environ.get("QUERY_STRING") else faults.next(environ["REQUEST_METHOD"], path)
        if faults.always and environ.get("QUERY_STRING"):
            fault = faults.always
        if fault in ("error", "busy", "denied"):
            status = {"error": "500 Oh dear", "busy": "503 Slow Down", "denied": "403 Forbidden"}[fault]
            code = {"error": "InternalError", "busy": "SlowDown", "denied": "AccessDenied"}[fault]
            start_response(status, [("Content-Type", "application/xml")])
            return (
                []
                if environ["REQUEST_METHOD"] == "HEAD"
                else [f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()]
            )
        if fault == "reset":
            _reset(environ["werkzeug.socket"])
            raise ConnectionAbortedError
        if fault in ("", "slow"):
            if fault:
                time.sleep(faults.slow_seconds)
            return inner(environ, start_response)
        answer = {}

        def noted(status, headers, *_):
            answer.update(status=status, headers=headers)

        body = b"".join(inner(environ, noted))
        half = body[: len(body) // 2]
        dropped = ("content-length", "x-amz-checksum") if fault != "garbled" else ("content-length",)
        headers = [(name, value) for name, value in answer["headers"] if not name.lower().startswith(dropped)]
        if fault == "garbled":
            half, announced = half + half[::-1], 2 * len(half)
            start_response(answer["status"], [*headers, ("Content-Length", str(announced))])
            return [half]
        announced = len(body) if fault == "cut" else len(half)
        start_response(answer["status"], [*headers, ("Content-Length", str(announced))])
        return [half]

    return application


@contextmanager
def _running(server) -> Iterator[str]:
    """The server at work in threads of its own; gives its address."""
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def s3_server(faults: Faults) -> Iterator[str]:
    """An S3 server with an empty bucket; gives its address."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_):
            pass

        def run_wsgi(self):
            with suppress(OSError):
                super().run_wsgi()

    moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, _application(moto, faults), threaded=True, request_handler=Quiet)
    with _running(server) as address:
        yield address


@contextmanager
def web_server(folder: Path, faults: Faults, *, ranges: bool = True) -> Iterator[str]:
    """A web server of the files in `folder`; gives its address."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

        def do_GET(self):
            fault = faults.next("GET", self.path)
            if fault == "reset":
                _reset(self.connection)
                return
            if fault in ("error", "busy", "denied"):
                self.send_error({"error": 500, "busy": 503, "denied": 403}[fault])
                return
            path = Path(self.translate_path(self.path))
            if not path.is_file():
                super().do_GET()
                return
            data = path.read_bytes()
            asked = self.headers.get("Range") if ranges else None
            first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
            body = part[: len(part) // 2] if fault in ("cut", "short") else part
            if fault == "slow":
                time.sleep(faults.slow_seconds)
            self.send_response(206 if asked else 200)
            self.send_header("ETag", f'"{len(data)}-{path.stat().st_mtime_ns}"')
            self.send_header("Content-Length", str(len(body) if fault == "short" else len(part)))
            self.end_headers()
            self.wfile.write(body)
            if fault == "cut":
                self.close_connection = True

        def do_HEAD(self):
            if fault := faults.next("HEAD", self.path):
                self.send_error({"error": 500, "busy": 503, "denied": 403}.get(fault, 500))
                return
            super().do_HEAD()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    with _running(server) as address:
        yield address


def upload(address: str, files: Iterable[tuple[str, bytes]]) -> None:
    """Put files into the bucket."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    for key, data in files:
        _request(connection, "PUT", f"/{BUCKET}/{quote(key)}", data)
    connection.close()


def empty_bucket(address: str) -> None:
    """Make the bucket anew."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    _request(connection, "POST", "/moto-api/reset", b"")
    _request(connection, "PUT", f"/{BUCKET}", b"")
    connection.close()


def _request(connection: http.client.HTTPConnection, method: str, path: str, data: bytes) -> None:
    signed = (
        "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"  # by which moto tells S3's requests
    )
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    headers = {"x-amz-checksum-crc32": checksum, "x-amz-sdk-checksum-algorithm": "CRC32"}
    connection.request(method, path, data, {"Authorization": signed, **headers})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, (method, path, answer.status)


def files_in(folder: Path, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """All files below a folder, by their paths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield prefix + path.relative_to(folder).as_posix(), path.read_bytes()


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def webdataset(folder: Path, start: int = 0, step: int = 1) -> bytes:
    """Every `step`th picture of a folder of class folders as a WebDataset shard with `.cls` members."""
    members = []
    for number, (path, data) in list(enumerate(files_in(folder)))[start::step]:
        members += [(f"{number:04}.png", data), (f"{number:04}.cls", path.partition("/")[0].encode())]
    return tar_of(members)


def hub_parquet(path: Path, folder: Path, *, rows_a_group: int = 7, start: int = 0, step: int = 1) -> Path:
    """The same as a Parquet file in the layout of the Hugging Face Hub."""
    import pyarrow
    import pyarrow.parquet

    files = list(files_in(folder))
    names = sorted({name.partition("/")[0] for name, _ in files})
    chosen = files[start::step]
    images = [{"bytes": data, "path": name.rpartition("/")[2]} for name, data in chosen]
    labels = [names.index(name.partition("/")[0]) for name, _ in chosen]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(images, kind), "label": pyarrow.array(labels, pyarrow.int64())})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=rows_a_group)
    return path
