"""The viewer served to this machine alone, with scans and masks from where they lie."""

from __future__ import annotations

import secrets
import shutil
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources.abc import Traversable
from io import BufferedIOBase, BytesIO
from pathlib import Path
from socketserver import TCPServer

from softoverlap.app.report.viewer.layers import Layer, nifti_bytes
from softoverlap.app.report.viewer.pages import CASES, Viewer, page_files

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

Content = bytes | Traversable | Layer


class ViewerServer(ThreadingHTTPServer):
    """Serves a viewer on 127.0.0.1: its page and the volumes it lists, and nothing else.

    The address holds a key drawn anew each time, so that other users of the machine do not see the
    scans. What is not in the list has no address; a request that names another host is refused.

    Args:
        viewer: What to serve.
        port: Port to listen on; 0 takes a free one.

    Raises:
        OSError: If the port is taken.

    Examples:
        >>> with ViewerServer(Viewer((), "results"), port=0) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    daemon_threads = True

    def __init__(self, viewer: Viewer, *, port: int = 0) -> None:
        self.converting = threading.Lock()  # one volume at a time in memory
        self.key = secrets.token_urlsafe(16)
        self.contents = {f"/{self.key}/{name}": content for name, content in _contents(viewer)}
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server for the host's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    @property
    def url(self) -> str:
        """The page to open."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.key}/index.html"

    @property
    def hosts(self) -> tuple[str, ...]:
        """How a browser on this machine may call the host."""
        return tuple(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))


def _contents(viewer: Viewer) -> list[tuple[str, Content]]:
    """All that is served, by name."""
    addresses = {name: f"{name}{layer.suffix}" for name, layer in viewer.layers.items()}
    volumes = [(addresses[name], layer) for name, layer in viewer.layers.items()]
    return [*page_files().items(), (CASES, viewer.listing(addresses)), *volumes]


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for exactly the addresses of the server."""

    server: ViewerServer  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "softoverlap", ""
    timeout = 60

    def do_GET(self) -> None:
        """Send what is asked for."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send the headers alone."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        """Every answer has the headers that protect it."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _answer(self, *, body: bool) -> None:
        if self.headers.get_all("Host") not in [[host] for host in self.server.hosts]:
            return self._send_text(HTTPStatus.FORBIDDEN, "this viewer is for this machine alone")
        content = self.server.contents.get(self.path)
        if content is None:
            return self._send_text(HTTPStatus.NOT_FOUND, "there is nothing of that name")
        try:
            with self._open(content) as stream:
                self._send(stream, body=body)
        except ConnectionError:
            self.close_connection = True  # the browser went on to another case
        except Exception as error:
            self._send_text(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return None

    def _open(self, content: Content) -> BufferedIOBase:
        """The bytes: of the page, of a file as it is, or of one made into a NIfTI file."""
        if isinstance(content, bytes):
            return BytesIO(content)
        if not isinstance(content, Layer):
            return content.open("rb")  # pyright: ignore[reportReturnType]
        if content.plain is not None:
            return Path(content.plain).open("rb")
        with self.server.converting:
            return BytesIO(nifti_bytes(content))

    def _send(self, stream: BufferedIOBase, *, body: bool) -> None:
        length = stream.seek(0, 2)
        stream.seek(0)
        suffix = Path(self.path).suffix
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if body:
            shutil.copyfileobj(stream, self.wfile)

    def _send_text(self, status: HTTPStatus, text: str) -> None:
        """A short answer in plain text."""
        content = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", _TYPES[".txt"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
