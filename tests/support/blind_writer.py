"""Another user of the machine who sends writes to a server and does not wait for the answers.

``python blind_writer.py HOST PORT COUNT``: prints how many requests were sent, after giving up root's rights.
"""

import encodings.idna  # noqa: F401  after the change of user the standard library may be out of reach
import os
import socket
import struct
import sys
import time

BODY = b'{"experiment_id": "0", "run_name": "blind"}'
HEAD = b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WRITE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
NOBODY = 65534


def close(connection: socket.socket) -> None:
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.002)
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stop_reading(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RD)
    connection.close()


def read_late(connection: socket.socket) -> None:
    time.sleep(0.002)
    connection.recv(1)
    connection.close()


def swap(connection: socket.socket) -> None:
    """Give the port to a new connection at once, so that its row stands where the old one's stood."""
    peer, own = connection.getpeername(), connection.getsockname()
    reset(connection)
    with socket.socket(connection.family) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(own)
        again.connect(peer)


ENDINGS = (close, half_close, reset, stop_reading, read_late, swap)
TEXTS = (WRITE, CHUNKED, HEALTH + WRITE, WRITE * 3, LAST)


def targets(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    if ":" in host:
        return [(socket.AF_INET6, (host, port))]
    return [(socket.AF_INET, (host, port)), (socket.AF_INET6, (f"::ffff:{host}", port))]


def main(host: str, port: int, count: int) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    sent = 0
    for number in range(count):
        family, address = targets(host, port)[number % len(targets(host, port))]
        connection = socket.socket(family)
        connection.settimeout(20)
        connection.connect(address)
        text = TEXTS[number // 2 % len(TEXTS)]
        connection.sendall(text)
        if number % 7 == 0:  # the answer to the first request may be there before the second is sent
            connection.sendall(WRITE)
        sent += 1
        try:
            ENDINGS[number // 2 // len(TEXTS) % len(ENDINGS)](connection)
        except OSError:  # the server was faster
            connection.close()
    print(sent)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
