"""A model that the tests run: an HTTP server on loopback that speaks the OpenAI chat completions protocol.

It answers with what a test queued, in order, and keeps every request that it got.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-Zx91QpLmTr7WbVnEe20KdYsA"
_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    text: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body["messages"]

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        """The tools that were offered, by name, with the schema of their arguments."""
        return {each["function"]["name"]: each["function"] for each in self.body.get("tools", [])}

    @property
    def results(self) -> list[str]:
        """What the tools answered, in order."""
        return [each["content"] for each in self.messages if each["role"] == "tool"]


class Exchange:
    """One request with the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, received: Received) -> None:
        self._handler = handler
        self._chunked = False
        self.received = received

    def json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        self.raw(status, json.dumps(content).encode(), headers)

    def raw(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self._handler.send_header(name, value)
        self._handler.send_header("Content-Length", str(len(content)))
        self._handler.end_headers()
        self._handler.wfile.write(content)

    def begin_stream(self, *, chunked: bool = False) -> None:
        self._chunked = chunked
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        self._handler.send_header("Connection", "close")
        if chunked:
            self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def event(self, content: object) -> None:
        data = content if isinstance(content, str) else json.dumps(content)
        sent = f"data: {data}\n\n".encode()
        if self._chunked:
            sent = b"%x\r\n%s\r\n" % (len(sent), sent)
        self._handler.wfile.write(sent)
        self._handler.wfile.flush()

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> None:
        self.event(
            {
                "id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "small",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )  # fmt: skip

    def drop(self) -> None:
        self._handler.close_connection = True
        self._handler.connection.close()


Answer = Callable[[Exchange], None]


def _message(content: str | None, calls: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{at}",
                "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for at, (name, given) in enumerate(calls)
        ]
    return message


def _answer(exchange: Exchange, text: str | None, calls: Sequence[tuple[str, Any]] = ()) -> None:
    message = _message(text, calls)
    finish = "tool_calls" if calls else "stop"
    if not exchange.received.body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        whole = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice]}
        exchange.json(200, {**whole, "usage": _USAGE})
        return
    exchange.begin_stream()
    exchange.chunk({"role": "assistant", "content": ""})
    for piece in _pieces(text or ""):
        exchange.chunk({"content": piece})
    for at, call in enumerate(message.get("tool_calls", ())):
        exchange.chunk({"tool_calls": [{"index": at, **call}]})
    exchange.chunk({}, finish)
    exchange.event("[DONE]")


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)] if text else []


def says(text: str) -> Answer:
    """Answer with a text: whole, or word by word where a stream was asked for."""
    return lambda exchange: _answer(exchange, text)


def calls(*wanted: tuple[str, Any], text: str | None = None) -> Answer:
    """Ask for tools: names with their arguments, a mapping or the raw text."""
    return lambda exchange: _answer(exchange, text, wanted)


def fails(status: int, headers: dict[str, str] | None = None, content: object = None) -> Answer:
    """Answer with an error that quotes the request, key and all, as some servers do."""

    def answer(exchange: Exchange) -> None:
        got = exchange.received
        quoted = f"{got.headers.get('authorization')} {got.text}"
        exchange.json(status, content or {"error": {"message": quoted, "type": "server_error"}}, headers)

    return answer


def raw(content: bytes, status: int = 200) -> Answer:
    """Answer with these bytes, whatever they are."""
    return lambda exchange: exchange.raw(status, content)


def drops() -> Answer:
    """Close the connection without a word."""
    return lambda exchange: exchange.drop()


def drops_midway(*pieces: str, chunked: bool = False) -> Answer:
    """Begin a stream, and close the connection in the middle of it; where it is sent in chunks, that can be seen."""

    def answer(exchange: Exchange) -> None:
        exchange.begin_stream(chunked=chunked)
        exchange.chunk({"role": "assistant", "content": ""})
        for piece in pieces:
            exchange.chunk({"content": piece})
        exchange.drop()

    return answer


def streams(*events: object) -> Answer:
    """Stream exactly these events."""

    def answer(exchange: Exchange) -> None:
        exchange.begin_stream()
        for each in events:
            exchange.event(each)

    return answer


def hangs(until: threading.Event, *pieces: str) -> Answer:
    """Say nothing (or, in a stream, these pieces and then nothing) until the event is set."""

    def answer(exchange: Exchange) -> None:
        if pieces:
            exchange.begin_stream()
            for piece in pieces:
                exchange.chunk({"content": piece})
        until.wait(30)
        exchange.drop()

    return answer


@dataclass
class ModelServer:
    """The running server; ``url`` is what ``llm.base_url`` is set to."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    released: threading.Event = field(default_factory=threading.Event)
    _answers: list[Answer] = field(default_factory=list)
    _always: Answer = field(default_factory=lambda: says("Hello from the model."))

    def will(self, *answers: Answer) -> None:
        """Queue answers; where none is left it says hello."""
        self._answers.extend(answers)

    def forget(self) -> None:
        """Forget what was asked and what was queued."""
        self._answers.clear()
        self.requests.clear()

    def wait_for(self, number: int) -> None:
        """Wait until this many requests have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= number, timeout=30)

    def always(self, answer: Answer) -> None:
        """Give this answer whenever none is queued."""
        self._always = answer

    @property
    def last(self) -> Received:
        return self.requests[-1]

    @property
    def everything(self) -> str:
        """All that was ever sent to the model, in one text."""
        return "\n".join(each.text for each in self.requests)

    def _take(self, received: Received) -> Answer:
        with self.arrived:
            self.requests.append(received)
            self.arrived.notify_all()
            return self._answers.pop(0) if self._answers else self._always


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run a server in threads of its own until the block ends."""
    model = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(self.path, headers, json.loads(text), text)
            answer = model._take(received)
            try:
                answer(Exchange(self, received))
            except OSError:
                self.close_connection = True  # whoever asked has hung up

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a connection that a test dropped

    server = Server(("127.0.0.1", 0), Handler)
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
