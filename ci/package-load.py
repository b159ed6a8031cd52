"""Clients and a server for ci/package.sh: whether any connection is lost while a gateway is upgraded.

    package-load.py serve PORT          echoes lines, each behind the address that the server saw
    package-load.py load PORT STOP      clients that announce themselves by PROXY v1 to 127.0.0.1:PORT until the file STOP
                                        is there; prints what they saw, and ends with 1 if a connection was lost
"""

import os
import socket
import sys
import threading

CLIENTS = 16
# Far below the gateway's `drain`, within which sessions of a worker that is replaced have to end.
LINES = 40
PATIENCE = 20


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=echo, args=(connection, peer), daemon=True).start()


def echo(connection, peer):
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(b"%s:%d %s" % (peer[0].encode(), peer[1], line))


def one_session(port, client, client_port):
    """A session of many turns, each checked; every tenth waits between them."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        announced = f"PROXY TCP4 {client} 192.0.2.1 {client_port} {port}\r\n"
        connection.sendall(announced.encode())
        lines = connection.makefile("rb")
        for turn in range(LINES):
            connection.sendall(b"turn %d\n" % turn)
            answer = lines.readline().decode()
            if not (answer.startswith(f"{client}:") and answer.endswith(f" turn {turn}\n")):
                raise ConnectionError(f"turn {turn} of {client}:{client_port}: {answer!r}")
            if client_port % 10 == 0:
                threading.Event().wait(0.05)


def clients(port, number, stop, seen):
    client, client_port = f"198.51.100.{number}", 10000
    while not os.path.exists(stop):
        client_port = 10000 + (client_port + 1 - 10000) % 50000
        try:
            one_session(port, client, client_port)
            seen.append(None)
        except OSError as error:
            seen.append(f"{client}:{client_port}: {error}")


def load(port, stop):
    seen = []
    threads = [threading.Thread(target=clients, args=(port, number, stop, seen)) for number in range(1, CLIENTS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [what for what in seen if what]
    print(f"{len(seen)} sessions, {len(lost)} lost", *lost[:10], sep="\n")
    return 1 if lost or not seen else 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        sys.exit(load(int(sys.argv[2]), sys.argv[3]))
