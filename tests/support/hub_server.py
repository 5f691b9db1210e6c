"""A Hub on the loopback interface, for the real huggingface_hub client: repositories, LFS, Xet, faults, a request log.

Two origins answer: the Hub itself, and a "CDN" on another port that large files are redirected to, and that refuses any
request that carries a token. Every request is logged with its headers and its bytes in both directions. What is not
here: accounts beyond a table of tokens, and git itself. Nothing outside 127.0.0.1 is listened on or contacted.

WAYS names what other servers may do otherwise, and still be such a Hub: a server is given one of them, or none.
"""

import base64
import contextlib
import gzip
import hashlib
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf", ".png")
CHUNK_NBYTES = 1 << 20

WAYS = {
    "prefix": "the Hub is served below a path, as a mirror may be",
    "paged": "a tree comes in pages of two entries",
    "names only": "a model's page lists the names of its files, without sizes or hashes",
    "no list": "a model's page lists no files",
    "odd pointers": "a model's page tells of large files in another form than the client takes for granted",
    "weak tags": "tags are weak, and a proxy has marked them",
    "one tag": "there is no X-Linked-Etag and no X-Linked-Size",
    "opaque tags": "the tags of large files, which the Hub sends itself, are no hashes",
    "direct": "large files come from the Hub itself",
    "two hops": "the Hub sends on within itself first, by a path alone",
    "star": "a range comes without the total size",
    "short": "an answer holds at most 700 bytes of a range",
    "chunked": "bodies are sent in chunks, without their length",
    "gzip": "answers in JSON are compressed",
    "moved": "the repository has a new name, and the old one leads there",
    "no commit": "a new repository has no commit, and no tree",
    "no auth-check": "whether one may write cannot be asked",
    "by size": "weights of less than a megabyte are kept as any other file",
    "lower case": "names of headers are written in lower case",
}


@dataclass(frozen=True)
class Sparse:
    """A file of ``nbytes`` apparent size with only its first bytes written."""

    head: bytes
    nbytes: int


@dataclass(frozen=True)
class Blob:
    """One file of one commit."""

    path: Path
    nbytes: int
    oid: str
    sha256: str | None
    xet_hash: str | None = None

    def bytes(self) -> bytes:
        return self.path.read_bytes()

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    @property
    def lfs(self) -> dict[str, Any]:
        return {"oid": self.sha256, "sha256": self.sha256, "size": self.nbytes, "pointerSize": 134}


@dataclass
class Commit:
    sha: str
    parent: str | None
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pull_requests: int = 0

    def find(self, revision: str) -> Commit | None:
        sha = self.branches.get(revision, revision)
        short = (commit for commit in self.commits.values() if len(sha) >= 7 and commit.sha.startswith(sha))
        return self.commits.get(sha) or next(short, None)


@dataclass(frozen=True)
class Account:
    name: str
    can_write: bool = True
    orgs: tuple[str, ...] = ()


@dataclass
class Request:
    """One received request: ``origin`` is "hub" or "cdn"; sizes are those of bodies, in bytes."""

    origin: str
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    received: int = 0
    sent: int = 0

    @property
    def line(self) -> str:
        return f"{self.method} {self.origin} {self.path}"


@dataclass
class Fault:
    """A fault for requests whose ``METHOD origin path`` matches; after the first ``skip`` of them, ``times`` times."""

    pattern: str
    times: int = 1
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "out of order"
    cut_after: int | None = None
    drop: bool = False
    ignore_range: bool = False
    garble_range: bool = False
    run_on: bool = False
    page: bytes | None = None
    action: Callable[[], object] | None = None


class Reply(Exception):  # noqa: N818 - a response, raised from inside a handler
    """A response other than the usual one."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **headers}
        if code is not None:
            self.headers["X-Error-Code"] = code


class HubServer:
    """Repositories, tokens, faults and the log; a context manager that serves while it is open."""

    def __init__(self, root: Path, *, xet: bool = False, way: str = "", multipart_nbytes: int | None = None) -> None:
        assert way in ("", *WAYS)
        self.root = root
        self.way = way
        self.xet = xet
        self.multipart_nbytes = multipart_nbytes
        self.tokens: dict[str, Account] = {}
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.waits: list[float] = []
        self.ignored: set[str] = set()
        self.lock = threading.RLock()
        self.lfs = root / "lfs"
        self.cas = root / "cas"
        self.parts: dict[str, dict[int, Path]] = {}
        self._servers: list[ThreadingHTTPServer] = []
        self._count = 0
        for folder in (self.lfs, self.cas, root / "plain"):
            folder.mkdir(parents=True, exist_ok=True)

    # Serving

    def __enter__(self) -> "HubServer":
        for origin in ("hub", "cdn"):
            server = _Server(("127.0.0.1", 0), _Handler)
            server.hub = self
            server.origin = origin
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving; connections are refused from now on."""
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.close_connections()
            server.server_close()

    @property
    def endpoint(self) -> str:
        prefix = "/mirror/hub" if self.way == "prefix" else ""
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}{prefix}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    # Content

    def add_token(self, token: str, name: str, *, can_write: bool = True, orgs: tuple[str, ...] = ()) -> None:
        self.tokens[token] = Account(name, can_write, orgs)

    def add_model(
        self, repo_id: str, files: Mapping[str, bytes | Path | Sparse], *, private: bool = False, gated: bool = False
    ) -> str:
        """Create a repository with one commit on main; return the commit."""
        with self.lock:
            self.repos[repo_id] = Repo(repo_id, private, gated)
            return self.commit(repo_id, files)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path | Sparse | Blob],
        *,
        revision: str = "main",
        deleted: tuple[str, ...] = (),
        title: str = "commit",
    ) -> str:
        """Add a commit to a branch, like somebody else's push; return it."""
        with self.lock:
            repo = self.repos[repo_id]
            parent = repo.branches.get(revision)
            content = dict(repo.commits[parent].files) if parent else {}
            for name in deleted:
                content.pop(name, None)
            content |= {name: self._blob(name, value) for name, value in files.items()}
            self._count += 1
            sha = hashlib.sha1(f"{repo_id}{self._count}{sorted(content)}".encode()).hexdigest()  # noqa: S324 - git's
            repo.commits[sha] = Commit(sha, parent, title, content)
            repo.branches[revision] = sha
            return sha

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision."""
        commit = self.repos[repo_id].find(revision)
        assert commit is not None
        return {name: blob.bytes() for name, blob in commit.files.items()}

    def _blob(self, name: str, value: "bytes | Path | Sparse | Blob") -> Blob:
        if isinstance(value, Blob):
            return value
        if isinstance(value, Sparse):
            path = self.lfs / "sparse"
            with path.open("w+b") as file:
                file.write(value.head)
                file.truncate(value.nbytes)
                file.seek(0)
                # The real hash if the file is small enough to hash quickly; nothing checks that of larger files.
                whole = hashlib.file_digest(file, "sha256") if value.nbytes <= 10**9 else hashlib.sha256(value.head)
            sha256 = whole.hexdigest()
            path = path.rename(self.lfs / sha256)
            return Blob(path, value.nbytes, sha256[:40], sha256)
        data = value if isinstance(value, bytes) else value.read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - git's
        lfs = self.is_large(name, len(data))
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.lfs / sha256 if lfs else self.root / "plain" / oid
        path.write_bytes(data)
        return Blob(path, len(data), sha256[:40] if lfs else oid, sha256 if lfs else None)

    def is_large(self, name: str, nbytes: int) -> bool:
        return name.endswith(LFS_SUFFIXES) and (self.way != "by size" or nbytes >= 10**6)

    def lfs_blob(self, sha256: str) -> Blob | None:
        """A large file that was uploaded, by LFS or through the Xet store."""
        path = self.lfs / sha256
        xet_hash = self.xet_hashes().get(sha256) if self.xet else None
        if not path.exists() and xet_hash is not None:
            self._from_xet(xet_hash, path)
        return Blob(path, path.stat().st_size, sha256[:40], sha256, xet_hash) if path.exists() else None

    def xet_hashes(self) -> dict[str, str]:
        """sha256 -> Xet hash of every file that the shards of the local store describe."""
        return dict(pair for path in self.cas.rglob("*.mdb") for pair in _shard_files(path.read_bytes()))

    def _from_xet(self, xet_hash: str, path: Path) -> None:
        import hf_xet

        nbytes = next(size for found, size in self.xet_sizes() if found == xet_hash)
        session = hf_xet.XetSession()
        with session.new_file_download_group(endpoint=f"local://{self.cas}") as group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, nbytes), str(path))

    def xet_sizes(self) -> list[tuple[str, int]]:
        return [pair for path in self.cas.rglob("*.mdb") for pair in _shard_sizes(path.read_bytes())]

    # Faults and the log

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Add a fault for requests whose line matches ``pattern``; see Fault."""
        fault = Fault(pattern, **what)
        self.faults.append(fault)
        return fault

    def take_fault(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times <= 0 or not re.search(fault.pattern, line):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def lines(self, pattern: str = "") -> list[str]:
        return [request.line for request in self.requests if re.search(pattern, request.line)]

    def sent(self, pattern: str = "") -> int:
        """Body bytes sent in response to matching requests."""
        return sum(request.sent for request in self.requests if re.search(pattern, request.line))

    def received(self, pattern: str = "") -> int:
        """Body bytes received with matching requests."""
        return sum(request.received for request in self.requests if re.search(pattern, request.line))

    def leaks(self, secret: str) -> list[str]:
        """Requests that contain ``secret`` where they must not: anywhere at the CDN, in a path or in another header."""
        return [
            request.line
            for request in self.requests
            if any(
                secret in value
                for name, value in [*request.headers.items(), ("path", request.path)]
                if request.origin != "hub" or name.lower() != "authorization"
            )
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    hub: HubServer
    origin: str

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up, which tests do on purpose; a bug in this file shows as a 500."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - http.server's names

    # One request

    def _answer(self) -> None:
        hub = self.server.hub
        self.hub = hub
        if hub.way == "prefix" and self.server.origin == "hub":
            self.path = self.path.removeprefix("/mirror/hub") if self.path.startswith("/mirror/hub/") else "/outside"
        self.record = Request(self.server.origin, self.command, self.path, dict(self.headers.items()))
        with hub.lock:
            hub.requests.append(self.record)
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.cut_after: int | None = None
        self.chunked = False
        self.fault = hub.take_fault(self.record.line)
        try:
            if self.fault is not None:
                self._misbehave(self.fault)
            if self.fault is not None and self.fault.page is not None:
                self._drain()
                return self._send(200, self.fault.page, {"Content-Type": "text/html"})
            self._route(parts.path)
        except Reply as reply:
            self._drain()
            self._send(reply.status, json.dumps({"error": str(reply)}).encode(), reply.headers)
        except ConnectionError:
            self.close_connection = True
        except Exception as error:  # a bug in this file must reach the client
            self._send(500, repr(error).encode(), {"X-Error-Message": f"hub_server.py: {error!r}"})

    def _misbehave(self, fault: Fault) -> None:
        if fault.action is not None:
            fault.action()
        if fault.drop:
            self.rfile.read(min(fault.cut_after or 0, int(self.headers.get("Content-Length", 0))))
            raise ConnectionAbortedError
        if fault.status is not None:
            raise Reply(fault.status, fault.message, **fault.headers)
        self.cut_after = fault.cut_after

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while nbytes := int(self.rfile.readline(), 16):
                self.record.received += nbytes
                yield self.rfile.read(nbytes)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0)) - self.record.received
        while left > 0:
            data = self.rfile.read(min(left, CHUNK_NBYTES))
            if not data:
                raise ConnectionAbortedError
            left -= len(data)
            self.record.received += len(data)
            yield data

    def _drain(self) -> None:
        for _ in self._body():
            pass

    def _json(self) -> Any:
        return json.loads(b"".join(self._body()) or b"{}")

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.record.status = status
        self.send_response(status)
        headers = dict(headers or {})
        headers.setdefault("Content-Type", "application/json")
        if self.hub.way == "gzip" and body and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        headers.setdefault("Content-Length", str(len(body)))
        self._send_headers(headers)
        if self.command != "HEAD":
            self._write(body)

    def _send_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name.lower() if self.hub.way == "lower case" else name, value)
        self.end_headers()

    def _write(self, data: bytes) -> None:
        if self.cut_after is not None:
            data = data[: max(0, self.cut_after - self.record.sent)]
        self.record.sent += len(data)  # first: a client may check the count as soon as it has the data
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked and data else data)
        if self.cut_after is not None and self.record.sent >= self.cut_after:
            self.wfile.flush()
            raise ConnectionAbortedError

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode())

    def _send_file(self, blob: Blob, headers: Mapping[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        fault = self.fault
        if wanted is None or (fault is not None and fault.ignore_range):
            status, start, stop, extra = 200, 0, blob.nbytes, {}
        else:
            start = int(wanted[1])
            stop = min(int(wanted[2]) + 1 if wanted[2] else blob.nbytes, blob.nbytes)
            if start >= blob.nbytes:
                raise Reply(416, "range not satisfiable", **{"Content-Range": f"bytes */{blob.nbytes}"})
            if fault is not None and fault.garble_range:
                start, stop = start + 1, stop + 1
            if self.hub.way == "short":
                stop = min(stop, start + 700)
            total = "*" if self.hub.way == "star" else blob.nbytes
            status, extra = 206, {"Content-Range": f"bytes {start}-{stop - 1}/{total}"}
        fixed = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        length = {"Content-Length": str(stop - start)}
        if fault is not None and fault.run_on:
            stop, length = min(stop + 1000, blob.nbytes), {"Connection": "close"}
        self.chunked = self.hub.way == "chunked" and self.command != "HEAD"
        if self.chunked:
            length = {"Transfer-Encoding": "chunked"}
        self.record.status = status
        self.send_response(status)
        self._send_headers(length | fixed | extra | dict(headers))
        if self.command == "HEAD":
            return
        with blob.path.open("rb") as file:
            file.seek(start)
            while start < stop:
                data = file.read(min(CHUNK_NBYTES, stop - start))
                self._write(data)
                start += len(data)
        if self.chunked:
            self.wfile.write(b"0\r\n\r\n")

    # Who asks, and what for

    def _account(self) -> Account | None:
        header = self.headers.get("Authorization")
        if header is None:
            return None
        account = self.hub.tokens.get(header.removeprefix("Bearer "))
        if account is None:
            raise Reply(401, "Invalid credentials in Authorization header")
        return account

    def _repo(self, repo_id: str, *, write: bool = False, content: bool = False) -> Repo:
        account = self._account()
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and (account is None or not _belongs(account, repo_id))):
            raise Reply(404 if account else 401, "Repository not found", "RepoNotFound")
        if content and repo.gated and (account is None or account.name not in repo.granted):
            raise Reply(403 if account else 401, f"Access to model {repo_id} is restricted.", "GatedRepo")
        if write and (account is None or not account.can_write or not _belongs(account, repo_id)):
            if account is None:
                raise Reply(401, "Invalid username or password.")
            raise Reply(403, "You don't have the rights to push to this repo")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(unquote(revision))
        if commit is None:
            raise Reply(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return commit

    def _route(self, path: str) -> None:
        if self.server.origin == "cdn":
            return self._cdn(path)
        if self.hub.way == "moved" and "/old/" in path:
            raise Reply(307, "moved", Location=self.path.replace("/old/", "/org/"))
        path = path.removeprefix("/inside") if self.hub.way == "two hops" else path
        for method, pattern, name in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and (self.command in method.split("|")):
                return getattr(self, name)(**{key: unquote(value or "") for key, value in found.groupdict().items()})
        raise Reply(404, f"hub_server.py has no answer to {self.command} {path}")

    def _cdn(self, path: str) -> None:
        if "Authorization" in self.headers:
            raise Reply(400, "Only one auth mechanism allowed")
        kind, oid, *rest = path.strip("/").split("/")
        if self.command == "PUT" and kind == "upload":
            target = self.hub.lfs / f"{oid}.part{rest[0] if rest else ''}-{time.monotonic_ns()}"
            with target.open("wb") as file:
                for data in self._body():
                    file.write(data)
            if rest:
                with self.hub.lock:
                    self.hub.parts.setdefault(oid, {})[int(rest[0])] = target
            else:
                target.replace(self.hub.lfs / oid)
            return self._send(200, b"", {"ETag": f'"part-{target.name}"'})
        blob = self.hub.lfs_blob(oid)
        if kind != "blob" or blob is None:
            raise Reply(404, "no such object")
        return self._send_file(blob, {"ETag": f'"cdn-{oid[:8]}"'})

    # Reading

    def whoami(self) -> None:
        account = self._account()
        if account is None:
            raise Reply(401, "Invalid username or password.")
        orgs = [{"name": name} for name in account.orgs]
        self._send_json({"type": "user", "name": account.name, "orgs": orgs, "auth": {"type": "access_token"}})

    def info(self, repo: str, rev: str = "") -> None:
        found = self._repo(repo)
        if not found.commits:
            return self._send_json({"id": repo, "private": found.private})
        commit = self._commit(found, rev or "main")
        detailed = "blobs" in self.query and self.hub.way != "names only"
        siblings = []
        for name, blob in commit.files.items():
            item: dict[str, Any] = {"rfilename": name}
            if detailed:
                lfs = {"oid": blob.sha256} if self.hub.way == "odd pointers" else blob.lfs
                item |= {"size": blob.nbytes, "blobId": blob.oid} | ({"lfs": lfs} if blob.sha256 else {})
            siblings.append(item)
        gated = "manual" if found.gated else False
        listed = {} if self.hub.way == "no list" else {"siblings": siblings, "tags": []}
        answer = {"id": repo, "sha": commit.sha, "private": found.private, "gated": gated, **listed}
        return self._send_json(answer)

    def tree(self, repo: str, rev: str, folder: str = "") -> None:
        commit = self._commit(self._repo(repo, content=True), rev)
        inside = {name: blob for name, blob in commit.files.items() if name.startswith(f"{folder}/" if folder else "")}
        if folder and not inside:
            raise Reply(404, f"{folder} does not exist", "EntryNotFound")
        items = [_item(name, blob) for name, blob in inside.items()]
        at = int(self.query.get("cursor", ["0"])[0])
        if self.hub.way != "paged" or at + 2 >= len(items):
            return self._send_json(items[at:])
        link = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=true&cursor={at + 2}"
        return self._send(200, json.dumps(items[at : at + 2]).encode(), {"Link": f'<{link}>; rel="next"'})

    def paths_info(self, repo: str, rev: str) -> None:
        commit = self._commit(self._repo(repo, content=True), rev)
        names = parse_qs(b"".join(self._body()).decode())["paths"]
        self._send_json([_item(name, commit.files[name]) for name in names if name in commit.files])

    def auth_check(self, repo: str, write: str = "") -> None:
        if self.hub.way == "no auth-check":
            raise Reply(404, "Not Found")
        self._repo(repo, write=bool(write), content=True)
        self._send_json({})

    def refs(self, repo: str) -> None:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
            for name, sha in self._repo(repo).branches.items()
            if not name.startswith("refs/")
        ]
        self._send_json({"branches": branches, "converts": [], "tags": []})

    def commits(self, repo: str, rev: str) -> None:
        found = self._repo(repo)
        commit: Commit | None = self._commit(found, rev)
        listed = []
        while commit is not None:
            listed.append(
                {
                    "id": commit.sha,
                    "title": commit.title,
                    "message": "",
                    "date": "2024-01-01T00:00:00.000Z",
                    "authors": [],
                }
            )
            commit = found.commits.get(commit.parent or "")
        self._send_json(listed)

    def resolve(self, repo: str, rev: str, name: str) -> None:
        commit = self._commit(self._repo(repo, content=True), rev)
        common = {"X-Repo-Commit": commit.sha}
        blob = commit.files.get(name)
        if blob is None:
            raise Reply(404, "Entry not found", "EntryNotFound", **common)
        if self.hub.way == "two hops" and not self.path.startswith("/inside"):
            return self._send(307, b"", common | {"Location": f"/inside{self.path}"})
        tag = f'W/"{blob.etag}-gzip"' if self.hub.way == "weak tags" else f'"{blob.etag}"'
        if blob.sha256 is None:
            return self._send_file(blob, common | {"ETag": tag})
        if self.hub.way in ("direct", "opaque tags"):
            return self._send_file(
                blob, common | {"ETag": f'"5f-{blob.oid[:6]}"' if self.hub.way == "opaque tags" else tag}
            )
        linked = {"X-Linked-Etag": tag, "X-Linked-Size": str(blob.nbytes)}
        common |= {"ETag": tag} | ({} if self.hub.way == "one tag" else linked)
        if blob.xet_hash is not None and self.hub.xet:
            link = f"{self.hub.endpoint}/api/models/{repo}/xet-read-token/{commit.sha}"
            common |= {"X-Xet-Hash": blob.xet_hash, "Link": f'<{link}>; rel="xet-auth"'}
        common["Location"] = f"{self.hub.cdn}/blob/{blob.sha256}/{Path(name).name}?signature=signed"
        return self._send(302, b"", common)

    # Writing

    def create(self) -> None:
        account = self._account()
        wanted = self._json()
        if account is None:
            raise Reply(401, "Invalid username or password.")
        repo_id = f"{wanted.get('organization') or account.name}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{repo_id}"
        if not account.can_write or not _belongs(account, repo_id):
            raise Reply(403, f'You don\'t have the rights to create a model under the namespace "{repo_id}"')
        with self.hub.lock:
            if repo_id in self.hub.repos:
                body = {"error": "You already created this model repo", "url": url}
                return self._send(409, json.dumps(body).encode())
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.hub.repos[repo_id] = Repo(repo_id, private=private)
            if self.hub.way != "no commit":
                self.hub.commit(repo_id, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return self._send_json({"url": url, "name": repo_id, "id": repo_id})

    def validate_yaml(self) -> None:
        found = re.match(r"---\n(.*?)\n---\n", self._json()["content"], re.DOTALL)
        try:
            valid = found is None or isinstance(yaml.safe_load(found[1]), dict)
        except yaml.YAMLError:
            valid = False
        if not valid:
            body = {"errors": [{"message": "invalid front matter"}], "warnings": []}
            return self._send(400, json.dumps(body).encode())
        return self._send_json({"errors": [], "warnings": []})

    def preupload(self, repo: str, rev: str) -> None:
        found = self._repo(repo, write="create_pr" not in self.query)
        held = self._commit(found, rev).files if found.commits else {}
        self._send_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if self.hub.is_large(file["path"], file["size"]) else "regular",
                        "shouldIgnore": file["path"] in self.hub.ignored,
                        **({"oid": held[file["path"]].etag} if file["path"] in held else {}),
                    }
                    for file in self._json()["files"]
                ]
            }
        )

    def lfs_batch(self, repo: str) -> None:
        self._repo(repo)
        objects = []
        asked = self._json()
        for wanted in asked["objects"]:
            oid, nbytes = wanted["oid"], wanted["size"]
            answer: dict[str, Any] = {"oid": oid, "size": nbytes}
            if self.hub.lfs_blob(oid) is None:
                upload: dict[str, Any] = {"href": f"{self.hub.cdn}/upload/{oid}"}
                step = self.hub.multipart_nbytes
                if step is not None and nbytes > step:
                    numbers = range(1, -(-nbytes // step) + 1)
                    upload = {"href": f"{self.hub.endpoint}/api/complete_multipart/{oid}"}
                    upload["header"] = {"chunk_size": str(step)} | {
                        str(number): f"{self.hub.cdn}/upload/{oid}/{number}" for number in numbers
                    }
                verify = {"href": f"{self.hub.endpoint}/{repo}.git/info/lfs/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        transfer = "xet" if self.hub.xet and "xet" in asked["transfers"] else "basic"
        self._send_json({"transfer": transfer, "objects": objects})

    def complete_multipart(self, oid: str) -> None:
        self._json()
        with self.hub.lock:
            parts = self.hub.parts.pop(oid, {})
        with (self.hub.lfs / f"{oid}.whole").open("wb") as file:
            for _, part in sorted(parts.items()):
                file.write(part.read_bytes())
                part.unlink()
        (self.hub.lfs / f"{oid}.whole").replace(self.hub.lfs / oid)
        self._send_json({"completed": True})

    def lfs_verify(self, repo: str) -> None:
        self._repo(repo)
        wanted = self._json()
        path = self.hub.lfs / wanted["oid"]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != wanted["oid"] or path.stat().st_size != wanted["size"]:
            path.unlink()
            raise Reply(400, "the uploaded object does not match its oid")
        self._send_json({})

    def xet_token(self, repo: str, kind: str, rev: str = "") -> None:
        self._repo(repo, content=True, write=kind == "write" and "create_pr" not in self.query)
        if not self.hub.xet:
            raise Reply(404, "this Hub has no Xet store")
        token = {"casUrl": f"local://{self.hub.cas}", "accessToken": "xet-token", "exp": int(time.time()) + 3600}
        names = {"casUrl": "X-Xet-Cas-Url", "accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration"}
        self._send(200, json.dumps(token).encode(), {names[key]: str(value) for key, value in token.items()})

    def push(self, repo: str, rev: str) -> None:
        as_pr = "create_pr" in self.query
        found = self._repo(repo, write=not as_pr)
        lines = [json.loads(line) for line in b"".join(self._body()).splitlines()]
        header = lines[0]["value"]
        with self.hub.lock:
            commit = self._commit(found, rev) if found.commits else Commit("", None, "", {})
            if header.get("parentCommit") not in (None, commit.sha):
                raise Reply(412, "A commit has happened since. Please refresh and try again.")
            files, deleted = self._operations(lines[1:], commit)
            branch = rev
            if as_pr:
                found.pull_requests += 1
                branch = f"refs/pr/{found.pull_requests}"
                found.branches[branch] = commit.sha
            sha = self.hub.commit(repo, files, revision=branch, deleted=deleted, title=header["summary"])
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{sha}"}
        if as_pr:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repo}/discussions/{found.pull_requests}"
        self._send_json(answer)

    def _operations(
        self, lines: list[dict[str, Any]], commit: Commit
    ) -> tuple[dict[str, bytes | Blob], tuple[str, ...]]:
        files: dict[str, bytes | Blob] = {}
        deleted: list[str] = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                blob = self.hub.lfs_blob(value["oid"])
                if blob is None or blob.nbytes != value.get("size", blob.nbytes):
                    raise Reply(400, f"{value['path']}: LFS pointer pointed to a file that does not exist")
                files[value["path"]] = blob
            elif line["key"] == "deletedFile":
                deleted.append(value["path"])
            elif line["key"] == "deletedFolder":
                deleted.extend(name for name in commit.files if name.startswith(value["path"].rstrip("/") + "/"))
        return files, tuple(deleted)

    def branch(self, repo: str, rev: str) -> None:
        found = self._repo(repo, write=True)
        start = self._json().get("startingPoint", "main")
        with self.hub.lock:
            if rev in found.branches:
                raise Reply(409, f"Reference already exists: {rev}")
            found.branches[rev] = self._commit(found, start).sha
        self._send_json({})

    def discussions(self, repo: str) -> None:
        found = self._repo(repo)
        with self.hub.lock:
            found.pull_requests += 1
            found.branches[f"refs/pr/{found.pull_requests}"] = self._commit(found, "main").sha
        self._send_json({"num": found.pull_requests})


def _belongs(account: Account, repo_id: str) -> bool:
    return repo_id.partition("/")[0] in (account.name, *account.orgs)


def _item(name: str, blob: Blob) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "file", "path": name, "size": blob.nbytes, "oid": blob.oid}
    if blob.sha256:
        item["lfs"] = blob.lfs
    if blob.xet_hash:
        item["xetHash"] = blob.xet_hash
    return item


_REPO = r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)"
_ROUTES = (
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", r"/api/complete_multipart/(?P<oid>\w+)", "complete_multipart"),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<rev>[^/]+)", "info"),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<rev>[^/]+)(?:/(?P<folder>.+))?", "tree"),
    ("POST", rf"/api/models/{_REPO}/paths-info/(?P<rev>[^/]+)", "paths_info"),
    ("GET", rf"/api/models/{_REPO}/auth-check(?P<write>/write)?", "auth_check"),
    ("GET", rf"/api/models/{_REPO}/refs", "refs"),
    ("GET", rf"/api/models/{_REPO}/commits/(?P<rev>[^/]+)", "commits"),
    ("GET", rf"/api/models/{_REPO}/xet-(?P<kind>read|write)-token(?:/(?P<rev>[^/]+))?", "xet_token"),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<rev>[^/]+)", "push"),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<rev>[^/]+)", "branch"),
    ("POST", rf"/api/models/{_REPO}/discussions", "discussions"),
    ("GET", rf"/api/models/{_REPO}", "info"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("POST", rf"/{_REPO}\.git/info/lfs/verify", "lfs_verify"),
    ("GET|HEAD", rf"/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<name>.+)", "resolve"),
)


# Xet shards, as far as a file's names and size: 48-byte records after a 48-byte header.
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


def _records(shard: bytes) -> Iterator[tuple[str, int, str]]:
    position = 48
    while shard[position : position + 32] not in (b"\xff" * 32, b""):
        xet_hash = _hash_text(shard[position : position + 32])
        flags, count = struct.unpack_from("<II", shard, position + 32)
        position += 48
        nbytes = sum(struct.unpack_from("<I", shard, position + 48 * index + 36)[0] for index in range(count))
        position += 48 * count * (2 if flags & _HAS_VERIFICATION else 1)
        sha256 = ""
        if flags & _HAS_METADATA:
            sha256 = _hash_text(shard[position : position + 32])
            position += 48
        yield xet_hash, nbytes, sha256


def _hash_text(raw: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def _shard_files(shard: bytes) -> Iterator[tuple[str, str]]:
    return ((sha256, xet_hash) for xet_hash, _, sha256 in _records(shard) if sha256)


def _shard_sizes(shard: bytes) -> Iterator[tuple[str, int]]:
    return ((xet_hash, nbytes) for xet_hash, nbytes, _ in _records(shard))
