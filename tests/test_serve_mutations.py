"""Damaged, hostile and absurd uploads: each is answered in words or asked to come again, and the server lives on."""

import contextlib
import io
import json
import random
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from .serving import as_process, client, picture
from .test_serve import count as counted

OPTIONS = {"max-file-mb": 0.3, "max-request-mb": 0.5, "max-files": 5, "max-megapixels": 4, "max-memory-mb": 50}
PATIENCE = {"timeout": 2}  # seconds, for a body that does not come
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
NAMES = [
    "a.png",
    "../../x",
    "/etc/passwd",
    "C:\\con",
    "<script>alert(1)</script>",
    "x" * 5000,
    "",
    "..",
    "a\x00b",
    "%00",
]
NAMES += ['a";filename=b', "\xe9\xff"]
ZEROS = [zlib.compress(b"\x00" * size) for size in (10_000, 5_000_000, 50_000_000)]

QUERIES = [b"", b"", b"?explain=true", b"?model=run", b"?model=..%2F..", b"?coverage=0.99", b"?coverage=nan"]
QUERIES += [b"?%00=%ff&&=&explain=1"]
EXTRAS = [
    *[b""] * 3,
    b"X-Long: " + b"y" * 70_000 + b"\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Range: bytes=0-5\r\n",
    b"X-Forwarded-For: " + b"1.2.3.4, " * 500 + b"\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
]


def originals():
    for form in FORMATS:
        for size in ((48, 40), (200, 150)):
            yield picture(size=size, form=form)
    palette = io.BytesIO()
    Image.new("P", (30, 30)).save(palette, format="PNG", transparency=0)
    yield palette.getvalue()


def png(width, height, data, *, depth=8, colour=2):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs(random):
    """Small files that claim or unpack to far more than they are."""
    zeros = random.choice(ZEROS)
    side = random.choice([1, 100, 1999, 2000, 2001, 20_000, 2**31 - 1, 0])
    text = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(zeros) + 5) + b"zTXtkey\x00\x00" + zeros
    return random.choice(
        [
            png(side, side, zeros),
            png(side, 1, zeros, depth=random.choice([1, 2, 4, 8, 16, 77]), colour=random.choice([0, 2, 3, 4, 6, 9])),
            text,
            b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(random.randbytes(50)),
            b"BM"
            + struct.pack("<IHHIIiiHHII", 100, 0, 0, 54, 40, 60_000, random.choice([-60_000, 60_000]), 1, 24, 1, 0),
            b"P6 99999 99999 255 " + b"x" * 100,
            b"II*\x00\x08\x00\x00\x00" + random.randbytes(300),
            b"RIFF" + struct.pack("<I", 2**31) + b"WEBPVP8L" + random.randbytes(100),
        ]
    )


def mutated(random, data):
    """`data` with some of its bytes changed, cut, repeated, or something else altogether."""
    for _ in range(random.choice([0, 1, 1, 1, 2, 4])):
        kind, at = random.randrange(8), random.randrange(len(data) + 1)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + random.randbytes(random.randrange(1, 40)) + data[at + random.randrange(40) :]
        elif kind == 2:
            changed = bytearray(data)
            for _ in range(random.choice([1, 5, 50])):
                if changed:
                    changed[random.randrange(min(len(changed), random.choice([64, 10**9])))] = random.randrange(256)
            data = bytes(changed)
        elif kind == 3:
            data = data * random.choice([2, 3])
        elif kind == 4:
            data = random.choice(
                [b"", b"\xff" * 1000, b"\x00" * 1000, random.randbytes(500), b"http://localhost/x.png"]
            )
        elif kind == 5:
            data = bombs(random)
        elif kind == 6:
            data = data + random.randbytes(random.choice([1, 1000, 400_000]))
        else:
            data = data[at:] + data[:at]
    return data


def form(random, datas):
    odd = random.random() < 0.3
    boundary = random.choice([b"-", b"b" * 70, b"b" * 71, b'"', b"", b"a b"] if odd else [b"b", b"----xyz"])
    parts = []
    for data in datas:
        name = random.choice(NAMES).encode("latin-1", "replace")
        field = random.choice([b"file", b"files", b"url", b"\xff", b""])
        usual = [
            b'Content-Disposition: form-data; name="file"; filename="%s"' % name,
            b'Content-Disposition: form-data; name="files"; filename="%s"\r\nContent-Type: image/png' % name,
        ]
        head = random.choice(
            usual
            if random.random() < 0.7
            else [
                b'Content-Disposition: form-data; name="%s"; filename="%s"' % (field, name),
                b'content-disposition: form-data; name=file; filename="%s"' % name,
                b'Content-Disposition: form-data; name="%s"' % field,
                b"X-" + b"y" * random.choice([10, 10_000]) + b": z",
                b"",
                random.randbytes(30),
                b"\r\n".join(b"X-%d: 1" % n for n in range(100)),
            ]
        )
        parts.append(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n")
    body = b"".join(parts) + b"--" + boundary + random.choice([b"--\r\n", b"--", b"", b"\r\n"])
    if random.random() < 0.2:
        body = mutated(random, body)
    return body, b"multipart/form-data; boundary=" + boundary


def request(random, datas):
    """A whole request, and whether its end is missing."""
    if random.random() < 0.6:
        body, kind = form(random, [mutated(random, random.choice(datas)) for _ in range(random.choice([1, 1, 2, 7]))])
    else:
        body = mutated(random, random.choice(datas))
        kind = random.choice(
            [
                b"image/png",
                b"image/" + b"x" * 300,
                b"text/html",
                b"",
                b"application/octet-stream",
                b"multipart/mixed",
                b"\xff",
            ]
        )
    query = random.choice(QUERIES)
    extra = random.choice(EXTRAS)
    length = len(body) + random.choice([0] * 120 + [1, 1000, -1 if body else 0, 10**12])
    head = b"POST /predict" + query + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + extra
    head += b"Content-Type: " + kind + b"\r\n" if kind else b""
    return head + b"Content-Length: %d\r\n\r\n" % length + body


def pace(random):
    """How a request is sent: at once; in drops; or in part, and then no more."""
    return random.choices(["whole", "drops", "part"], [150, 2, 1])[0]


def answer(port, data, how="whole"):
    """Status, head and body of the answer; one that the server gives while we are sending is read all the same."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            if how == "drops":
                size = max(1, len(data) // 20)
                for start in range(0, len(data), size):
                    connection.sendall(data[start : start + size])
                    time.sleep(0.02)
            else:
                connection.sendall(data if how == "whole" else data[:-10])
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return int(head[9:12]), head.lower(), body


@pytest.mark.parametrize("uploads", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_upload_is_a_fault(tiny_run, uploads):
    datas, seen = list(originals()), Counter()
    options = [word for name, value in {**OPTIONS, **PATIENCE}.items() for word in (f"--{name}", str(value))]

    def send(number):
        dice = random.Random(number)
        data = request(dice, datas)
        status, head, body = answer(server.port, data, pace(dice))
        said = json.loads(body)
        assert status in (200, 400, 404, 408, 413, 415, 422, 503), (number, status, said, data[:300])
        assert status != 503 or b"retry-after: " in head
        assert ("error" in said) == (status != 200)
        seen[status] += 1
        if number % 50 == 0:  # a good picture among them gets the answer that it always gets
            assert ask.post("/predict", files={"file": picture()}).json() == usual

    with as_process(tiny_run, tiny_run.parent / "cache", *options) as server, client(server) as ask:
        usual = ask.post("/predict", files={"file": picture()}).json()
        with ThreadPoolExecutor(16) as pool:  # many of them keep the server waiting
            list(pool.map(send, range(uploads)))
        assert {200, 400, 408, 413, 415, 422} <= set(seen)
        assert ask.post("/predict", files={"file": picture()}).json() == usual
        assert counted(ask, "headstart_held_bytes") == counted(ask, "headstart_waiting_pictures") == 0
        assert server.poll() is None
        server.terminate()
        assert server.communicate(timeout=30) == ("", "")
        assert server.returncode == 0
    sys.stdout.write(f"{uploads} uploads, by status: {dict(sorted(seen.items()))}\n")
