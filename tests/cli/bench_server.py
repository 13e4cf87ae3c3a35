"""A server of OpenAI's API on a real socket that says what a test wants it to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Json = dict[str, Any]
Respond = Callable[["Request"], None]


@dataclass
class Request:
    """One POST: its number (the probe is 0), its body, and the ways to answer it."""

    number: int
    path: str
    body: Json
    handler: BaseHTTPRequestHandler

    def refuse(self, status: int, message: str) -> None:
        self._reply(status, json.dumps({"error": {"message": message, "type": "x"}}).encode())

    def say(self, *chunks: Json | str) -> None:
        """A stream of these chunks, and its end."""
        frames = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in chunks]
        self._reply(200, "".join(frames).encode())

    def _reply(self, status: int, body: bytes) -> None:
        self.handler.send_response(status)
        self.handler.end_headers()
        self.handler.wfile.write(body)


@dataclass
class Server:
    """What `respond` does with each request; `bodies` are all that were asked, in order."""

    respond: Respond
    models: list[str] = field(default_factory=lambda: ["m"])
    bodies: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[Json] = field(default_factory=list)
    url: str = ""


def token(text: str = "a", ids: list[int] | None = None, finish: str | None = None) -> Json:
    choice: Json = {"index": 0, "text": text, "finish_reason": finish}
    return {"choices": [choice | ({} if ids is None else {"token_ids": ids})]}


def usage(prompt: int, output: int, cached: int = 0) -> Json:
    counted = {"prompt_tokens": prompt, "completion_tokens": output}
    return {"choices": [], "usage": counted | {"prompt_tokens_details": {"cached_tokens": cached}}}


def whole(request: Request) -> None:
    """As many tokens as were asked for, and usage."""
    count = request.body["max_tokens"]
    tokens = [token(ids=[7], finish="length" if left == 1 else None) for left in range(count, 0, -1)]
    request.say(*tokens, usage(len(request.body["prompt"]), count), "[DONE]")


class Listener(ThreadingHTTPServer):
    """For many clients who come at once."""

    request_queue_size = 64


@contextmanager
def serving(respond: Respond = whole) -> Iterator[Server]:
    server = Server(respond)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {
                "/v1/models": {"data": [{"id": name} for name in server.models]},
                "/version": {"version": "9"},
            }
            self.send_response(200 if self.path in known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(known.get(self.path, {})).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(len(server.bodies), self.path, body, self)
            server.bodies.append(body)
            server.paths.append(self.path)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.respond(request)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    http = Listener(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
