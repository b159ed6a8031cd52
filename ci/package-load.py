"""Clients and a server for ci/package.sh and ci/boot.sh: whether any connection is lost while a gateway is upgraded.

    package-load.py serve PORT
        echoes lines, each behind the address that the server saw
    package-load.py load STOP COMING STAYING ADDRESS:PORT…
        clients that announce themselves there by PROXY v1 until the file STOP is there: at each address COMING at a time
        come, talk and go; STAYING come once and stay to the end. Prints what they saw, and ends with 1 if a connection
        was lost
    package-load.py once ADDRESS:PORT…
        one client at each, who waits PATIENCE for an answer
"""

import os
import socket
import sys
import threading
import time

# Far below the gateway's `drain`, within which sessions of a worker that is replaced have to end.
LINES = 40
PATIENCE = 20
PAUSE = 0.05

# What a turn carries beside its number.
FILLING = "x" * 1000


def serve(port):
    listeners = [socket.create_server(("127.0.0.1", port), backlog=1024)]
    listeners.append(socket.create_server(("::1", port), family=socket.AF_INET6, backlog=1024))
    threads = [threading.Thread(target=accept, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()


def accept(listener):
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=echo, args=(connection, peer), daemon=True).start()


def echo(connection, peer):
    try:
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(b"%s %d %s" % (peer[0].encode(), peer[1], line))
    except OSError:
        # The client knows.
        pass


class Session:
    """A client, by the address that it announces, and what it has been answered."""

    def __init__(self, gateway, number, port):
        client, server = (
            (f"2001:db8::{number:x}", "2001:db8::1:1") if ":" in gateway[0] else (f"198.51.100.{number}", "192.0.2.1")
        )
        self.who, self.turns = f"{client} {port}", 0
        self.connection = socket.create_connection(gateway, timeout=PATIENCE)
        family = "TCP6" if ":" in client else "TCP4"
        self.connection.sendall(f"PROXY {family} {client} {server} {port} {gateway[1]}\r\n".encode())
        self.lines = self.connection.makefile("rb")

    def turn(self):
        self.turns += 1
        said = f"turn {self.turns} {FILLING}\n"
        self.connection.sendall(said.encode())
        answer = self.lines.readline().decode()
        if answer != f"{self.who} {said}":
            raise ConnectionError(f"turn {self.turns}: {answer!r}")

    def finish(self):
        """An end that the server has answered: nothing is on its way any more."""
        self.connection.shutdown(socket.SHUT_WR)
        rest = self.lines.read()
        self.connection.close()
        if rest:
            raise ConnectionError(f"more than was said: {rest!r}")


def coming_and_going(gateway, number, stop, seen):
    port = 10000
    while not os.path.exists(stop):
        port = 10000 + (port + 1 - 10000) % 50000
        one_session(gateway, number, port, seen, lambda turns: turns < LINES, PAUSE if port % 10 == 0 else 0)


def staying(gateway, number, stop, seen):
    one_session(gateway, number, 9999, seen, lambda _: not os.path.exists(stop), PAUSE)


def one_session(gateway, number, port, seen, goes_on, pause):
    session = None
    try:
        session = Session(gateway, number, port)
        while goes_on(session.turns):
            session.turn()
            time.sleep(pause)
        session.finish()
        seen.append((session.turns, None))
    except OSError as error:
        turns = session.turns if session else 0
        seen.append((turns, f"client {number} of {gateway[0]}, port {port}, turn {turns}: {error!r}"))


def load(stop, coming, stay, gateways):
    short, long = [], []
    threads = []
    for gateway in gateways:
        for number in range(1, 1 + coming):
            threads.append(threading.Thread(target=coming_and_going, args=(gateway, number, stop, short)))
        for number in range(101, 101 + stay):
            threads.append(threading.Thread(target=staying, args=(gateway, number, stop, long)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [what for _, what in short + long if what]
    turns = sum(turns for turns, _ in long)
    print(f"{len(short)} sessions one after the other, {len(long)} that stayed with {turns} turns: {len(lost)} lost")
    print(*lost[:10], sep="\n")
    return 1 if lost or (coming and not short) or len(long) < stay * len(gateways) else 0


def once(gateways):
    seen = []
    for gateway in gateways:
        one_session(gateway, 200, 9998, seen, lambda turns: turns < 2, 0)
    lost = [what for _, what in seen if what]
    print(*lost, sep="\n")
    return 1 if lost else 0


def address(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    elif sys.argv[1] == "load":
        sys.exit(load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), [address(text) for text in sys.argv[5:]]))
    else:
        sys.exit(once([address(text) for text in sys.argv[2:]]))
