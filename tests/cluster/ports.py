"""Ports of this machine, for processes that meet on them."""

import contextlib
import socket
import time


def free_port() -> int:
    with socket.create_server(('localhost', 0)) as server:
        return server.getsockname()[1]


def connected(port: int) -> socket.socket:
    """Returns a connection to a port that somebody is about to open."""
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(('localhost', port), timeout=5)
        time.sleep(0.1)
    raise AssertionError(f'nobody listens on port {port}')
