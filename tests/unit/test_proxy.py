"""The bad network that other tests rely on is as bad as it says."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from tests.proxy import Proxy

PATIENCE = 30.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while chunk := self.request.recv(1024):
            self.request.sendall(chunk)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Proxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def says(end: socket.socket, word: bytes) -> bytes:
    end.sendall(word)
    return end.recv(1024)


def is_silent(end: socket.socket) -> bool:
    end.settimeout(0.05)
    try:
        return end.recv(1024) is None
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)


def test_what_is_stalled_arrives_later(proxy: Proxy) -> None:
    with connect(proxy) as end:
        assert says(end, b"one") == b"one"
        proxy.stall()
        end.sendall(b"two")
        assert is_silent(end)
        proxy.flow()
        assert end.recv(1024) == b"two"


def test_what_is_swallowed_never_arrives(proxy: Proxy) -> None:
    with connect(proxy) as end:
        assert says(end, b"one") == b"one"
        proxy.swallow()
        end.sendall(b"two")
        assert is_silent(end)
        proxy.flow()
        end.sendall(b"three")
        assert is_silent(end)
        with connect(proxy) as other:
            assert says(other, b"four") == b"four"


def test_who_is_cut_off_is_told(proxy: Proxy) -> None:
    with connect(proxy) as end:
        assert says(end, b"one") == b"one"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            end.recv(1024)
    with connect(proxy) as end:
        assert says(end, b"two") == b"two"


def test_who_is_refused_gets_nothing(proxy: Proxy) -> None:
    def try_it(word: bytes) -> bytes:
        with connect(proxy) as end:
            return says(end, word)

    proxy.refuse()
    with pytest.raises(ConnectionError):
        assert try_it(b"one")  # an end without a word would be a failure of another kind
    proxy.flow()
    assert try_it(b"two") == b"two"
