"""A server on 127.0.0.1 that stands in for Hugging Face and Kaggle.

It answers the HTTP calls that huggingface_hub and kagglehub make for uploads and downloads of
presets, and no others. huggingface_hub is led here by HF_ENDPOINT. kagglehub knows no address but
Kaggle's, so `use_kaggle` changes its table of addresses; its own code makes the calls.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse

TOKEN = "secret"
"""What a client must send where a login is needed."""

_CHUNK = 1 << 14
_TEXT = (".json", ".md")  # not for LFS


def environment(stub, folder):
    """Variables by which a process uses the stub, with caches in a folder."""
    return {
        "HF_ENDPOINT": stub.url,
        "HF_HOME": str(folder / "huggingface"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",  # another protocol, for which there is no stub
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "KAGGLEHUB_CACHE": str(folder / "kagglehub"),
        "KAGGLE_CONFIG_DIR": str(folder / "kaggle"),
        "KAGGLE_API_TOKEN": TOKEN,
        "KERAS_HOME": str(folder / "keras"),
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def use_kaggle(url):
    """Leads kagglehub, if it is installed, to the stub in this process."""
    try:
        from kagglehub import clients
        from kagglesdk import kaggle_env
    except ImportError:
        return
    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url
    # It looks through the sources of the whole call stack, for seconds.
    clients.get_user_agent = lambda: "test"


class Hub(http.server.ThreadingHTTPServer):
    """The server and what it stores.

    Attributes:
        repositories: on Hugging Face: name -> list of (commit, {file: bytes}), newest last.
        models: on Kaggle: "owner/model" -> {"framework/variation": list of {file: bytes}}.
        private: names that need a login; `gated`: names that need consent.
        requests: (method, path, Range or None, status) of every request.
        stop_in: a file in whose middle transfers stop, until `resume` is set.
        halfway: set once a transfer has stopped.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.models, self.licenses = {}, {}, {}
        self.private, self.gated = set(), set()
        self.objects, self.sizes, self.uploads = {}, {}, {}  # of LFS by SHA-256, of Kaggle by token
        self.requests = []
        self.stop_in, self.halfway, self.resume = None, threading.Event(), threading.Event()

    def handle_error(self, request, client_address):
        """Says nothing: clients are killed on purpose."""

    def commit(self, name, changes, removed=()):
        history = self.repositories.setdefault(name, [])
        files = dict(history[-1][1]) if history else {}
        files |= changes
        for file in removed:
            files.pop(file, None)
        commit = hashlib.sha1(f"{name} {len(history)}".encode()).hexdigest()
        history.append((commit, files))
        return commit

    def newest(self, name):
        return self.repositories[name][-1][1]

    def asked_for(self, file):
        """(Range, status) of the downloads of a file."""
        return [
            (requested, status)
            for method, path, requested, status in self.requests
            if method == "GET" and path.endswith(f"/{file}")
        ]


@contextlib.contextmanager
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.resume.set()
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, content=b"", **headers):
        if isinstance(content, dict | list):
            content, headers["Content-Type"] = json.dumps(content).encode(), "application/json"
        path, requested = self.path.partition("?")[0], self.headers.get("Range")
        self.server.requests.append((self.command, path, requested, status))
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self, name=""):
        """The content of a request; stops in the middle of `stop_in`."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        left, parts = int(self.headers.get("Content-Length") or 0), []
        half = left // 2
        while left:
            if left <= half and name and name == self.server.stop_in:
                self._stop()
            parts.append(self.rfile.read(min(_CHUNK, left)))
            if not parts[-1]:
                raise ConnectionError
            left -= len(parts[-1])
        return b"".join(parts)

    def _chunk(self):
        size = int(self.rfile.readline(), 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _stop(self):
        self.server.halfway.set()
        self.server.resume.wait(60)

    def send_file(self, name, content, **headers):
        """A file or, with Range, the rest of one; stops in the middle of `stop_in`."""
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        first = int(requested[1]) if requested else 0
        status = 206 if requested else 200
        if requested:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range"), status))
        self.send_response(status)
        headers |= {"Content-Length": len(content) - first, "Accept-Ranges": "bytes"}
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        middle = (first + len(content)) // 2
        self.wfile.write(content[first:middle])
        if name == self.server.stop_in:
            self.wfile.flush()
            time.sleep(0.3)  # so that it reaches the client's disk
            self._stop()
        self.wfile.write(content[middle:])

    def logged_in(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        if match := re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        elif match := re.fullmatch("/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if found := self._revision(*match.groups()):
                files = found[1].items()
                rows = [{"type": "file", "path": f, "size": len(c), "oid": "0"} for f, c in files]
                self.answer(200, rows)
        elif match := re.fullmatch("/api/models/([^/]+/[^/]+)/revision/([^/]+)", path):
            # Before 1.0, huggingface_hub asks for the way of uploads.
            if found := self._revision(*match.groups()):
                self.answer(200, {"id": match[1], "sha": found[0], "xetEnabled": False})
        elif match := re.fullmatch("/kaggle/(.+?/.+?/.+?/.+?)/([0-9]+)/(.+)", path):
            handle, version, file = match.groups()
            owner, model, *variation = handle.split("/")
            content = self.server.models[f"{owner}/{model}"]["/".join(variation)][int(version) - 1][
                file
            ]
            md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
            self.send_file(file, content, **{"x-goog-hash": f"md5={md5}"})
        else:
            self.answer(404)

    def _revision(self, name, revision):
        """The (commit, files) of a revision, or None after answering that it isn't there."""
        server = self.server
        history = server.repositories.get(name)
        if history is None or (name in server.private and not self.logged_in()):
            self.answer(404 if self.logged_in() else 401, X_Error_Code="RepoNotFound")
        elif name in server.gated:
            self.answer(403, X_Error_Code="GatedRepo")
        else:
            commits = dict(history)
            if revision == "main":
                return history[-1]
            if revision in commits:
                return revision, commits[revision]
            self.answer(404, X_Error_Code="RevisionNotFound")
        return None

    def _resolve(self, name, revision, file):
        found = self._revision(name, revision)
        if found is None:
            return
        commit, files = found
        if file not in files:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        etag = hashlib.sha256(files[file]).hexdigest()
        self.send_file(file, files[file], **{"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def do_PUT(self):
        path = self.path.partition("?")[0]
        kind, key = path.strip("/").split("/")
        if kind == "lfs":
            content = self.body(self.server.sizes[key])
            assert hashlib.sha256(content).hexdigest() == key
            self.server.objects[key] = content
            self.answer(200, ETag='"0"')
        elif (self.headers.get("Content-Range") or "").startswith("bytes *"):
            self.answer(308)  # nothing has arrived
        else:
            name, _ = self.server.uploads[key]
            self.server.uploads[key] = (name, self.body(name))
            self.answer(200)

    def do_POST(self):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        content = self.body()
        service = path.rpartition(".")[2]
        if path.startswith("/v1/"):
            self._kaggle(service, json.loads(content))
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif not self.logged_in():
            self.answer(401, {"error": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            self._create(json.loads(content))
        elif match := re.fullmatch("/api/models/(.+/.+)/preupload/main", path):
            files = [file["path"] for file in json.loads(content)["files"]]
            modes = ["regular" if f.endswith(_TEXT) else "lfs" for f in files]
            rows = zip(files, modes, strict=True)
            self.server.sizes["name"] = next((f for f in files if not f.endswith(_TEXT)), "")
            self.answer(
                200,
                {"files": [{"path": f, "uploadMode": m, "shouldIgnore": False} for f, m in rows]},
            )
        elif re.fullmatch(r"/.+/.+\.git/info/lfs/objects/batch", path):
            self._batch(json.loads(content)["objects"])
        elif match := re.fullmatch("/api/models/(.+/.+)/commit/main", path):
            self._commit(match[1], map(json.loads, content.splitlines()))
        else:
            self.answer(404)

    def _create(self, request):
        name = f"{request['organization']}/{request['name']}"
        known = name in self.server.repositories
        if not known:
            self.server.commit(name, {".gitattributes": b""})
            if request.get("private") or request.get("visibility") == "private":
                self.server.private.add(name)
        self.answer(409 if known else 200, {"url": f"{self.server.url}/{name}"})

    def _batch(self, objects):
        answers = []
        for each in objects:
            oid = each["oid"]
            answers.append({"oid": oid, "size": each["size"]})
            if oid not in self.server.objects:
                self.server.sizes[oid] = self.server.sizes["name"]
                href = f"{self.server.url}/lfs/{oid}"
                answers[-1]["actions"] = {"upload": {"href": href}}
        self.answer(200, {"transfer": "basic", "objects": answers})

    def _commit(self, name, rows):
        changes, removed = {}, []
        for row in rows:
            value = row["value"]
            if row["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                changes[value["path"]] = self.server.objects[value["oid"]]
            elif row["key"] == "deletedFile":
                removed.append(value["path"])
        commit = self.server.commit(name, changes, removed)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _kaggle(self, service, request):
        server = self.server
        name = f"{request.get('ownerSlug')}/{request.get('modelSlug') or request.get('slug')}"
        body = request.get("body") or {}
        framework = (request.get("framework") or body.get("framework") or "").upper()
        framework = framework.removeprefix("MODEL_FRAMEWORK_").lower().replace("_", "")
        variation = f"{framework}/{request.get('instanceSlug') or body.get('instanceSlug')}"
        operation = service.rpartition("/")[2]
        model = server.models.get(name)
        if operation.startswith(("Create", "Start")) and not self.logged_in():
            self.answer(401, {"code": 401, "message": "Unauthenticated"})
        elif operation == "StartBlobUpload":
            token = f"token{len(server.uploads)}"
            server.uploads[token] = (request["name"], None)
            self.answer(200, {"token": token, "createUrl": f"{server.url}/upload/{token}"})
        elif operation == "CreateModel":
            server.models[name] = {}
            self.answer(200, {"id": 1, "url": f"/models/{name}"})
        elif model is None or (name in server.private and not self.logged_in()):
            self.answer(404 if model is None else 403, {"message": "no such model"})
        elif operation == "GetModel":
            self.answer(200, {"id": 1, "slug": name})
        elif operation == "CreateModelInstance" and variation in model:
            self.answer(200, {"error": "it exists", "errorCode": 409})
        elif operation.startswith("CreateModelInstance"):
            files = dict(server.uploads[file["token"]] for file in body["files"])
            model.setdefault(variation, []).append(files)
            server.licenses[f"{name}/{variation}"] = body.get("licenseName")
            self.answer(200, {"id": 1, "url": ""})
        elif variation not in model:
            self.answer(404, {"message": "no such variation"})
        elif operation == "GetModelInstance":
            self.answer(200, {"id": 1, "versionNumber": len(model[variation])})
        elif operation == "DownloadModelInstanceVersion":
            version, path = request["versionNumber"], request.get("path")
            if version > len(model[variation]) or path not in model[variation][version - 1]:
                self.answer(404, {"message": "no such file"})
            else:
                where = f"{server.url}/kaggle/{name}/{variation}/{version}/{path}"
                self.answer(302, Location=where)
        else:
            self.answer(404)
