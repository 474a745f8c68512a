"""Tests of files by name: pinned, fetched once, and never torn. Nothing here leaves this machine."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations
from pydantic import ValidationError

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.fetch import local_path
from pipeline.pinned_file import PinnedFile

CONTENT = bytes(range(256)) * 9000  # several pieces
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class FileServer(BaseHTTPRequestHandler):
    """Web server with one file, a torn one, and one that never ends."""

    asked: ClassVar[list[str]] = []
    release: ClassVar = threading.Event()

    def do_GET(self) -> None:
        """Answer, and note the path."""
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/moved.pth":
            self.send_response(302)
            self.send_header("Location", "/weights.pth")
            self.end_headers()
            return
        self.send_response(200 if path != "/absent.pth" else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if path == "/hangs.pth":
            self.wfile.write(CONTENT[:1000])
            self.wfile.flush()
            self.release.wait(60)
        elif path == "/torn.pth":
            self.wfile.write(CONTENT[:-1])
        elif path != "/absent.pth":
            self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Address of the web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FileServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield "http://{}:{}".format(*server.server_address[:2])
    FileServer.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of fetched files."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    FileServer.asked.clear()
    return tmp_path / "torch" / "darkroom"


def weights(name: str) -> PinnedFile:
    return PinnedFile.named(name, "weights")


def left_in(folder: Path) -> list[str]:
    """Return the names in a folder, except of locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once_by_all_replicas(origin: str, cache: Path) -> None:
    """Replicas that start together fetch a file once; a later start asks nobody."""
    file = weights(f"{origin}/moved.pth?version=2#sha256={DIGEST.upper()}")
    assert file.missing() == (
        f"weights: {origin}/moved.pth?version=2 is not on this machine yet; a start fetches it to {cache}/{DIGEST}.pth"
    )
    starts = [threading.Thread(target=local_path, args=(file,)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert local_path(file).read_bytes() == CONTENT
    assert file.missing() is None
    assert FileServer.asked == ["/moved.pth?version=2", "/weights.pth"]
    assert left_in(cache) == [f"{DIGEST}.pth"]


def test_a_kept_file_that_has_changed_is_fetched_again(origin: str, cache: Path) -> None:
    """Neither a change on the disk nor the rest of a fetch that was killed is ever served."""
    file = weights(f"{origin}/weights.pth#sha256={DIGEST}")
    cache.mkdir(parents=True)
    (cache / f"{DIGEST}.pth").write_bytes(CONTENT[:-1] + b"!")
    (cache / f"{DIGEST}.pth.abc.part").write_bytes(CONTENT[:9])
    assert local_path(file).read_bytes() == CONTENT
    assert left_in(cache) == [f"{DIGEST}.pth"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.pth", f"the content of .*/weights.pth is not the one .* its SHA-256 is {DIGEST} instead of 0000"),
        ("torn.pth", "torn.pth is not the one that is pinned"),
        ("absent.pth", "absent.pth cannot be fetched: HTTPError: HTTP Error 404"),
    ],
)
def test_another_content_is_refused_and_removed(origin: str, cache: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidModel, match=f"^weights: .*{message}"):
        local_path(weights(f"{origin}/{name}#sha256={'0' * 64}"))
    assert left_in(cache) == []


def test_a_fetch_that_hangs_ends(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.model.fetch.FETCH_STALLED_AFTER_S", 0.2)
    with pytest.raises(InvalidModel, match=r"hangs.pth (has not arrived|cannot be fetched: (TimeoutError|URLError))"):
        local_path(weights(f"{origin}/hangs.pth#sha256={DIGEST}"))


@pytest.mark.parametrize("scheme", ["hf", "s3", "gs"])
def test_object_stores_and_hubs_are_read_by_fsspec(scheme: str) -> None:
    """A file system of fsspec serves each scheme, here one in memory."""

    class Store(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no types
        protocol = scheme

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix(f"{scheme}://").lstrip("/")

    fsspec.register_implementation(scheme, Store, clobber=True)
    try:
        Store().pipe_file("/bucket/weights.safetensors", CONTENT)
        path = local_path(weights(f"{scheme}://bucket/weights.safetensors#sha256={DIGEST}"))
    finally:
        _registry.pop(scheme)
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".safetensors"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_implementations, "gs", {"class": "absent.Store", "err": "Install it"})
    with pytest.raises(
        InvalidModel, match=r"^weights: gs://bucket/w.pth needs a package .* pip install 'darkroom\[gs\]'$"
    ):
        local_path(weights(f"gs://bucket/w.pth#sha256={DIGEST}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://bucket/w.pth", "is fetched only if its content is known; append #sha256=DIGEST"),
        ("s3://bucket/w.pth#sha256=12", "has to be 64 hexadecimal digits, as `sha256sum FILE` prints them, but is 12"),
        (f"https://user:word@host/w.pth#sha256={DIGEST}", "has no user and password, as /info and the log show it"),
        ("ftp://host/w.pth", "cannot be fetched; write a path, or a URL of hf, s3, gs, https, http"),
    ],
)
def test_a_url_must_be_pinned(name: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PipelineConfig(weights=name)


def test_a_path_may_be_pinned(tmp_path: Path) -> None:
    """A local file of another content is refused, but stays where it is."""
    path = tmp_path / "own.pth"
    assert weights(str(path)).missing() is None  # whoever opens it tells
    path.write_bytes(CONTENT)
    assert local_path(weights(f"{path}#sha256={DIGEST}")) == local_path(weights(str(path))) == path
    with pytest.raises(InvalidModel, match="is not the one that is pinned"):
        local_path(weights(f"{path}#sha256={'1' * 64}"))
    assert path.exists()


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(InvalidModel, match="this user has none; set HOME or TORCH_HOME to a folder"):
        local_path(weights(f"s3://bucket/w.pth#sha256={DIGEST}"))
