"""A slow link: what this namespace sends to some addresses leaves it a while later.

Knows: a TUN interface to which those addresses are routed, and a raw socket that sends what comes out of it by eth0.
Does not know: TCP, or what it carries. Run it inside the namespace: `python -m xpod.cli.chaos.link`.

It says `ready` once it carries packets, and its count of them when its stdin ends; then the interface is gone, and
packets go their usual way. Packets stay in order, as on a wire.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

DEVICE, WIRE = "slow0", "eth0"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
BIND_TO_DEVICE = 25
"""SO_BINDTODEVICE: with it, routes by other interfaces do not count."""
LARGEST_PACKET = 65536
BURST = 256
DESTINATION = slice(16, 20)
"""Of an IPv4 header."""


class Delay:
    """Packets on their way. `seconds` and `jitter` say when each is due: not before the one ahead of it."""

    def __init__(self, seconds: float, jitter: float, rng: random.Random) -> None:
        self._seconds, self._jitter, self._random = seconds, jitter, rng
        self._queue: deque[tuple[float, bytes]] = deque()

    def put(self, packet: bytes, now: float) -> None:
        due = now + max(0.0, self._seconds + self._random.uniform(-self._jitter, self._jitter))
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, packet))

    def take(self, now: float) -> list[bytes]:
        """Those that are due."""
        packets = []
        while self._queue and self._queue[0][0] <= now:
            packets.append(self._queue.popleft()[1])
        return packets

    def wait(self, now: float) -> float | None:
        """Seconds until the next is due; None: there is none."""
        return max(0.0, self._queue[0][0] - now) if self._queue else None


def open_tun(name: str) -> int:
    """A TUN interface of that name, which lives as long as the descriptor. Raises OSError."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def route(addresses: Sequence[str]) -> None:
    """Sends packets to these addresses into the TUN interface, and lets answers come in elsewhere."""
    for interface in ("all", WIRE):
        Path(f"/proc/sys/net/ipv4/conf/{interface}/rp_filter").write_text("0")
    subprocess.run(["ip", "link", "set", DEVICE, "up"], check=True)
    own = subprocess.run(
        ["ip", "-4", "-o", "address", "show", "dev", WIRE], check=True, capture_output=True, text=True
    ).stdout.split()[3]
    for address in addresses:
        source = own.partition("/")[0]
        subprocess.run(["ip", "route", "add", f"{address}/32", "dev", DEVICE, "src", source], check=True)


def carry(tun: int, wire: socket.socket, delay: Delay, end: int) -> int:
    """Carries packets until `end` can be read; how many there were."""
    carried = 0
    while True:
        ready = select.select([tun, end], [], [], delay.wait(time.monotonic()))[0]
        if end in ready:
            return carried
        for packet in read_burst(tun) if ready else ():
            delay.put(packet, time.monotonic())
        for packet in delay.take(time.monotonic()):
            wire.sendto(packet, (socket.inet_ntoa(packet[DESTINATION]), 0))
            carried += 1


def read_burst(tun: int) -> list[bytes]:
    """IPv4 packets that are there now."""
    packets = []
    for _ in range(BURST):
        try:
            packet = os.read(tun, LARGEST_PACKET)
        except BlockingIOError:
            break
        if packet[0] >> 4 == 4:
            packets.append(packet)
    return packets


def main() -> None:
    seconds, jitter, seed, *addresses = sys.argv[1:]
    tun = open_tun(DEVICE)
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    wire.setsockopt(socket.SOL_SOCKET, BIND_TO_DEVICE, WIRE.encode())
    route(addresses)
    print("ready", flush=True)
    delay = Delay(float(seconds), float(jitter), random.Random(seed))
    print(carry(tun, wire, delay, sys.stdin.fileno()), flush=True)


if __name__ == "__main__":
    main()
