"""Commands that stand for members, and a router that says what a test wants it to say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from xpod.cli.plan import LaunchPlan, MemberSpec

SLEEPER = ("sleep", "600")
# Answers /ready and /xpod/status; its arguments are the port and the members that it calls up.
FAKE_ROUTER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        members = [{"id": name, "kind": name.split("-")[0], "state": "up", "detail": {}} for name in sys.argv[2:]]
        body = json.dumps({"ready": True, "pod": "pod", "model": "m", "members": members}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def member(name: str, argv: Sequence[str] = SLEEPER) -> MemberSpec:
    return MemberSpec(name, name.rpartition("-")[0], tuple(argv), {})


def shell(name: str, script: str) -> MemberSpec:
    return member(name, ("sh", "-c", script))


def fake_router(port: int, *members: str) -> MemberSpec:
    return member("router-0", (sys.executable, "-c", FAKE_ROUTER, str(port), *members))


def plan_for(
    data: Path, *members: MemberSpec, endpoints: Sequence[str] = (), seconds: float = 20.0
) -> LaunchPlan:
    return LaunchPlan("pod", "model", str(data), tuple(endpoints), (), members, seconds)
