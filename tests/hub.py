"""A stand-in for the Hugging Face Hub on loopback: it speaks what huggingface_hub really calls to push a model.

Large files go by git LFS (the batch request, then a PUT for each), as they do where HF_HUB_DISABLE_XET is set.
"""

import base64
import hashlib
import json
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TOKEN, OWNER = "hf_of_the_test", "me"
LARGE = 5_000
"""Bytes above which a file goes by LFS."""


class Hub:
    """What the stand-in holds, what it was asked, and how it is to fail."""

    def __init__(self):
        self.repositories = {}  # name -> {"private": bool, "files": {path: bytes}, "commits": int}
        self.objects = {}  # LFS: sha256 -> bytes
        self.asked = Counter()  # kind of request -> how often
        self.faults = {}  # kind of request -> statuses, or "cut", for the next requests of that kind
        self.url = ""

    def files(self, name):
        return self.repositories[name]["files"]

    def fault(self, kind):
        """How this request is to fail, if it is."""
        waiting = self.faults.get(kind) or [None]
        return waiting[0] if len(waiting) == 1 and waiting[0] == "always cut" else waiting.pop(0)


@contextmanager
def running():
    """A Hub that listens on a free port of loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing."""

    def do_GET(self):
        self._route()

    def do_POST(self):
        self._route()

    def do_PUT(self):
        self._route()

    def _route(self):
        path = urlsplit(self.path).path
        kind, name = self._kind(path)
        self.hub.asked[kind] += 1
        fault = self.hub.fault(kind)
        if fault in ("cut", "always cut"):
            self.rfile.read(1)  # in the midst of the body
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self._body()
        if fault is not None:
            self._answer(fault, {"error": "injected on purpose"})
        elif kind != "put" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials in Authorization header"})
        else:
            getattr(self, f"_{kind}")(name, body)

    def _kind(self, path):
        """The kind of request, and the repository or object that it is about."""
        if path == "/api/repos/create":
            return "create", None
        if path == "/api/validate-yaml":
            return "validate", None
        if path.startswith("/objects/"):
            return "put", path.removeprefix("/objects/")
        if path.endswith(".git/info/lfs/objects/batch"):
            return "batch", path.removesuffix(".git/info/lfs/objects/batch").strip("/")
        if path.startswith("/api/models/"):
            parts = path.split("/")[3:]
            kind = parts[2] if len(parts) > 2 else "info"
            return ("info" if kind == "revision" else kind), "/".join(parts[:2])
        return "unknown", path

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status, said=None):
        text = json.dumps(said or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _unknown(self, name, _):
        self._answer(404, {"error": f"no such place: {name}"})

    def _create(self, _, body):
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        elif wanted["organization"] != OWNER:
            self._answer(403, {"error": f"You don't have the rights to create a model under {wanted['organization']}"})
        else:
            files = {".gitattributes": b"*.onnx filter=lfs\n"}
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.repositories[name] = {"private": private, "files": files, "commits": 1}
            self._answer(200, {"url": f"{self.hub.url}/{name}"})

    def _info(self, name, _):
        if name not in self.hub.repositories:
            self._answer(404, {"error": "Repository not found"})
            return
        found = self.hub.repositories[name]
        siblings = [{"rfilename": path} for path in found["files"]]
        sha = f"{found['commits']:040x}"
        self._answer(200, {"id": name, "private": found["private"], "siblings": siblings, "sha": sha})

    def _validate(self, _, body):
        import yaml

        parts = json.loads(body)["content"].split("---\n")
        errors = []
        try:
            if not isinstance(yaml.safe_load(parts[1]), dict):
                errors = [{"message": "no metadata"}]
        except (yaml.YAMLError, IndexError) as error:
            errors = [{"message": str(error)}]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(self, name, body):
        files = self.hub.files(name)
        said = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["size"] > LARGE else "regular",
                "shouldIgnore": False,
                "oid": _name(files[one["path"]]) if one["path"] in files else None,
            }
            for one in json.loads(body)["files"]
        ]
        self._answer(200, {"files": said})

    def _batch(self, _, body):
        objects = []
        for one in json.loads(body)["objects"]:
            wanted = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}
            objects.append(one if one["oid"] in self.hub.objects else {**one, "actions": wanted})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, name, body):
        if hashlib.sha256(body).hexdigest() != name:
            self._answer(400, {"error": "not what was announced"})
            return
        self.hub.objects[name] = body
        self._answer(200)

    def _commit(self, name, body):
        rows = [json.loads(line) for line in body.splitlines()]
        files = dict(self.hub.files(name))
        for row in rows:
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        found = self.hub.repositories[name]
        found["files"], found["commits"] = files, found["commits"] + 1
        sha = f"{found['commits']:040x}"
        self._answer(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})


def _name(content):
    """What the Hub calls a file's content: its SHA-256 where it is large, else git's name of it."""
    if len(content) > LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
