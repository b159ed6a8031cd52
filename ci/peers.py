#!/usr/bin/env python3
"""The questions of ci/peers.sh: asked of each program, in a network namespace of its own, and compared with the README."""

import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
GATEWAY, TARGET, BALANCER = ("10.0.0.1", 2222), ("127.0.0.1", 8080), "10.0.0.2"
CLIENT = "203.0.113.7"
# Longer than anything takes that comes at all.
PATIENCE = 8.0
# Longer than the deadline for a header, where there is one.
SILENCE = 12.0
V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Program:
    """One gateway, started anew for each question."""

    def __init__(self, name, command, allow):
        self.name, self.command, self.allow = name, command, allow

    @contextlib.contextmanager
    def running(self, protocol="tcp", allowed=None, descriptors=None):
        limit = f"ulimit -n {descriptors}; " if descriptors else ""
        command = [*self.command, "-p", protocol]
        with tempfile.NamedTemporaryFile("w") as networks:
            if allowed is not None:
                networks.write(allowed)
                networks.flush()
                command += [self.allow, networks.name]
            elif self.name == "this":
                command += ["--allow", "10.0.0.0/24"]
            child = subprocess.Popen(
                ["bash", "-c", f'{limit}exec "$@"', "bash", *command],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
            try:
                wait_for(lambda: child.poll() is not None or listens(protocol))
                yield child
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                wait_for(lambda: not listens(protocol))


def programs():
    both = ["-4", "127.0.0.1:8080", "-6", "[::1]:8080"]
    rust = BUILT / "bench-peers/bin/mmproxy"
    ours = BUILT / "debug/mmproxy"
    return [
        Program("this", [ours, "--quiet", "--listen", "10.0.0.1:2222", *both], "--allowed-subnets"),
        Program("path-network, Go", ["go-mmproxy", "-l", "10.0.0.1:2222", *both], "-allowed-subnets"),
        Program("mmproxy-rs", [rust, "-l", "10.0.0.1:2222", *both, "--listeners", "64"], "-a"),
    ]


def wait_for(condition, patience=10.0):
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def listens(protocol):
    """Whether the gateway's address is taken, by the kernel's own table."""
    wanted = "0100000A:08AE"
    with open(f"/proc/net/{protocol}") as table:
        rows = [line.split() for line in table][1:]
    return any(row[1] == wanted and (protocol == "udp" or row[3] == "0A") for row in rows)


def v1(client=CLIENT, port=4711):
    return f"PROXY TCP4 {client} 198.51.100.1 {port} 22\r\n".encode()


def v2(kind=0x11, client=CLIENT, port=4711, command=0x21):
    addresses = socket.inet_aton(client) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 22)
    return V2 + bytes([command, kind]) + struct.pack("!H", len(addresses)) + addresses


def serve(kind=socket.SOCK_STREAM, address=TARGET):
    server = socket.socket(socket.AF_INET, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    server.settimeout(PATIENCE)
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    return server


def dial(*pieces, pause=0.3):
    balancer = socket.create_connection(GATEWAY, PATIENCE, (BALANCER, 0))
    balancer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number, piece in enumerate(pieces):
        if number:
            time.sleep(pause)
        balancer.sendall(piece)
    return balancer


def arrives(*pieces):
    """Whom the target sees and what it reads first; None if nobody comes."""
    with serve() as server, dial(*pieces):
        try:
            session, client = server.accept()
            session.settimeout(PATIENCE)
            with session:
                return client[0], session.recv(100)
        except (TimeoutError, OSError):
            return None


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def yes(answer):
    return "yes" if answer else "no"


def versions(program):
    with program.running():
        one = arrives(v1() + b"hello") == (CLIENT, b"hello")
    with program.running():
        two = arrives(v2() + b"hello") == (CLIENT, b"hello")
    with program.running() as child:
        # A balancer's own connection, and an address block that is too short for its family.
        local = arrives(v2(command=0x20) + b"hello")
        whole = local and local[0] != CLIENT
        arrives(V2 + bytes([0x21, 0x11, 0, 0]))
        whole = whole and child.poll() is None
    return f"{yes(one)} / {'partly' if two and not whole else yes(two)}"


def segments(program):
    with program.running():
        line = v1() + b"hello"
        return yes(arrives(line[:20], line[20:]) == (CLIENT, b"hello"))


def deadline(program):
    with program.running(), serve(), dial() as silent:
        silent.settimeout(SILENCE)
        begun = time.monotonic()
        try:
            silent.recv(1)
        except TimeoutError:
            return "none"
        except ConnectionResetError:
            pass
        return f"{round(time.monotonic() - begun)} s"


def loopback(program):
    with program.running():
        return "spoofed" if arrives(v1("127.0.0.1") + b"hello") == ("127.0.0.1", b"hello") else "refused"


def half_close(program):
    with program.running(), serve() as server, dial(v1() + b"question") as balancer:
        balancer.shutdown(socket.SHUT_WR)
        session, _ = server.accept()
        with session:
            session.settimeout(PATIENCE)
            while session.recv(100):
                pass
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                session.sendall(b"answer")
            session.close()
        try:
            return "carried over" if balancer.recv(100) == b"answer" else "both closed"
        except OSError:
            return "both closed"


def reset_carried(program):
    with program.running(), serve() as server, dial(v1() + b"x") as balancer:
        session, _ = server.accept()
        with session:
            session.settimeout(PATIENCE)
            session.recv(1)
            reset(balancer)
            try:
                session.recv(1)
                return "no"
            except ConnectionResetError:
                return "carried over"
            except TimeoutError:
                return "no"


def descriptors(program):
    with program.running(descriptors=64) as child, serve() as server:
        held = []
        for number in range(80):
            with contextlib.suppress(OSError):
                held.append(dial(v1(port=5000 + number) + b"x"))
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: child.poll() is not None, 2)
        for connection in held:
            connection.close()
        server.close()
        return "waits" if child.poll() is None else f"exits with {child.returncode}"


def empty_list(program):
    try:
        with program.running(allowed="") as child:
            if child.poll() is not None:
                return "nobody may connect"
            return "everybody" if arrives(v1() + b"hello") else "nobody may connect"
    except TimeoutError:
        return "nobody may connect"


def port_taken(program):
    with program.running(), serve(address=("0.0.0.0", 9999)):
        return "refused" if arrives(v1(port=9999) + b"hello") is None else "kept with `--keep-net-admin`, else another"


@contextlib.contextmanager
def datagrams(target=TARGET):
    with serve(socket.SOCK_DGRAM, target) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as balancer:
        balancer.bind((BALANCER, 0))
        balancer.settimeout(PATIENCE)
        yield server, balancer


def asked(server, balancer, text, client=CLIENT, port=4711):
    """Sends a datagram as this client; whom the target saw with it, or None."""
    balancer.sendto(v2(0x12, client, port) + text, GATEWAY)
    try:
        while True:
            got, seen = server.recvfrom(2000)
            if got == text:
                return seen
    except TimeoutError:
        return None


def answered(server, balancer, text, to):
    """Whether the balancer receives what the target says to this client."""
    if to is None:
        return False
    server.sendto(text, to)
    try:
        while balancer.recv(2000) != text:
            pass
        return True
    except (TimeoutError, OSError):
        return False


def udp(program):
    with program.running("udp") as child, datagrams() as (server, balancer):
        seen = asked(server, balancer, b"one")
        replied = answered(server, balancer, b"two", seen)
        if child.poll() is not None:
            return "crashes"
        if seen and seen[0] == CLIENT and replied:
            # A balancer's own; what else is in such a header is to be ignored.
            balancer.sendto(v2(0x12, command=0x20) + b"local", GATEWAY)
            try:
                text, seen = server.recvfrom(2000)
                return "yes" if text == b"local" and seen[0] != CLIENT else "partly"
            except TimeoutError:
                return "partly"
        return "no"


def udp_wildcard(program):
    with program.running("udp") as child, datagrams(("0.0.0.0", 8080)) as (server, balancer):
        seen = asked(server, balancer, b"one")
        return yes(child.poll() is None and answered(server, balancer, b"two", seen))


def udp_mixed(program):
    with program.running("udp") as child, datagrams() as (server, balancer):
        first = asked(server, balancer, b"one")
        second = asked(server, balancer, b"two", "203.0.113.8", 4712)
        if child.poll() is not None:
            return ""
        apart = first and second and first[0] == CLIENT and second[0] == "203.0.113.8"
        return "kept apart" if apart else "mixed"


def udp_goes_on(program):
    with program.running("udp") as child, datagrams() as (server, balancer):
        seen = asked(server, balancer, b"one")
        answered(server, balancer, b"", seen)
        goes_on = answered(server, balancer, b"two", asked(server, balancer, b"three"))
        if child.poll() is not None:
            return ""
    with program.running("udp"), datagrams() as (server, balancer):
        asked(server, balancer, b"one")
        server.close()
        balancer.sendto(v2(0x12) + b"into the dark", GATEWAY)
        time.sleep(0.5)
        with serve(socket.SOCK_DGRAM) as again:
            goes_on &= answered(again, balancer, b"two", asked(again, balancer, b"three"))
    return "goes on" if goes_on else "no more replies"


QUESTIONS = {
    "PROXY v1 / v2": versions,
    "header arriving in several segments": segments,
    "deadline for the header": deadline,
    "client announced as 127.0.0.1": loopback,
    "client's port taken by a listener of this host": port_taken,
    "one side closes its half": half_close,
    "one side resets": reset_carried,
    "out of descriptors": descriptors,
    "allow-list file empty": empty_list,
    "UDP, version 2 / SPP": udp,
    "UDP server bound to all addresses": udp_wildcard,
    "UDP: two clients behind one balancer's socket": udp_mixed,
    "UDP: empty datagram, or a target that was restarted": udp_goes_on,
}


def readme():
    """The README's table: question, then program, to what it says."""
    lines = iter((ROOT / "README.md").read_text().splitlines())
    head = next(line for line in lines if line.startswith("| | this |"))
    cells = lambda line: [cell.strip() for cell in line.strip("|").split("|")]
    names = cells(head)[1:]
    rows = (cells(line) for line in lines if line.startswith("| "))
    return {row[0]: dict(zip(names, row[1:])) for row in rows}


def ask_alone(question, program):
    """The answer, in a network namespace of its own: a gateway that was killed leaves its rules behind."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    command = [*unshare, sys.executable, __file__, "--inside", question, program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def inside(question, name):
    for command in (
        "link set lo up", "addr add 10.0.0.1/32 dev lo", "addr add 10.0.0.2/32 dev lo",
        # The way out, which has to be there for a reply to be turned back.
        "link add cable type veth peer name world", "addr add 192.0.2.1/24 dev cable", "link set cable up",
        "link set world up", "route add default via 192.0.2.2",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    if name != "this":
        for command in PEERS_ROUTES:
            subprocess.run(["ip", *command.split()], check=True)
    [program] = (program for program in programs() if program.name == name)
    print(QUESTIONS[question](program))


# What the peers' manuals ask for.
PEERS_ROUTES = ("rule add from 127.0.0.0/8 iif lo lookup 123", "route add local 0.0.0.0/0 dev lo table 123")


def main(words):
    questions = [question for question in QUESTIONS if all(word in question for word in words)]
    if not questions:
        sys.exit(f"no question has {' and '.join(words)} in it; there are: {'; '.join(QUESTIONS)}")
    said, wrong = readme(), 0
    names = [program.name for program in programs()]
    print(f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for question in questions:
        found = []
        for name in names:
            answer, claim = ask_alone(question, name), said[question][name]
            # Of UDP's two headers only one is asked for. Where Debian's 2.1 differs from the source that was read, the
            # cell says so.
            agrees = claim == answer or claim.split(" / ")[0] == answer or f"(2.1: {answer})" in claim
            wrong += not agrees
            found.append(answer if agrees else f"**{answer}**, not {claim}")
        print(f"| {question} | {' | '.join(found)} |", flush=True)
    if wrong:
        sys.exit(f"{wrong} cells of the README say otherwise")


if sys.argv[1:2] == ["--inside"]:
    inside(*sys.argv[2:])
else:
    main(sys.argv[1:])
