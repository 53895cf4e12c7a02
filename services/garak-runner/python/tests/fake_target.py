"""An OpenAI-compatible and REST target on a free loopback port, with scripted misbehaviour."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]

DRIP: Answer = (-2, {}, b"")
"""An answer that comes at a byte each tenth of a second, for ever."""


def chat(text: str | None) -> Answer:
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def failing(status: int, headers: dict[str, str] | None = None) -> Answer:
    return status, {"Content-Type": "application/json", **(headers or {})}, b'{"error":{"message":"no"}}'


def deterministic_text(prompt: str) -> str:
    """Depends on the prompt alone, so that order and parallelism cannot matter."""
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    return (prompt, "I'm sorry, but I cannot help with that.", prompt[::-1], "Sure: " + prompt[:200])[digest[0] % 4]


@dataclass
class FakeTarget:
    """`respond(number, prompt)` decides each POST's answer; None hangs until the target closes."""

    respond: Callable[[int, str], Answer | None]
    latency: float = 0.0
    calls: int = 0
    in_flight: int = 0
    peak: int = 0
    connections: int = 0
    first_headers: dict[str, str] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def call(self) -> Iterator[int]:
        with self.lock:
            self.calls += 1
            number = self.calls
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        try:
            yield number
        finally:
            with self.lock:
                self.in_flight -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


@contextmanager
def serving(respond: Callable[[int, str], Answer | None], latency: float = 0.0) -> Iterator[FakeTarget]:
    target = FakeTarget(respond, latency)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with target.lock:
                target.connections += 1

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send((404, {}, b""))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if not target.first_headers:
                target.first_headers = dict(self.headers)
            prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            with target.call() as number:
                if target.latency:
                    time.sleep(target.latency)
                answer = target.respond(number, prompt)
                if answer is None:
                    target.closing.wait(60)
                    self.close_connection = True
                    return
            # Out of flight before the client can know, or its next call would seem to overlap.
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            status, headers, body = answer
            if status == -1:  # cut the connection: RST instead of an answer
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if status == -2:
                self._drip()
                return
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
            self.wfile.write(head.encode() + body)

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
            self.close_connection = True
            while not target.closing.wait(0.1):
                try:
                    self.wfile.write(b" ")
                except OSError:  # it has given up
                    return

    server = _Server(("127.0.0.1", 0), Handler)
    target.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield target
    finally:
        target.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
