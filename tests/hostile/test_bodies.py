"""Bodies that are made to cost much, or to mean two things: one short refusal each, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc

import httpx
import pytest

from router.api_fakes import CHAT, COMPLETIONS, FakeEngine, app_of
from router.test_api_server import serving

MANY = 500_000
MIB = 1 << 20


def filled(before: bytes, item: bytes, after: bytes) -> bytes:
    return before + b",".join([item] * MANY) + after


def names(before: bytes, after: bytes) -> bytes:
    return before + b",".join(b'"%x":1' % i for i in range(60_000)) + after


BOMBS = {
    "fractions for tokens": filled(b'{"prompt":[', b"1.5", b"]}"),
    "empty lists for tokens": filled(b'{"prompt":[', b"[]", b"]}"),
    "texts for tokens": filled(b'{"prompt":"x","stop_token_ids":[', b'""', b"]}"),
    "empty messages": filled(b'{"messages":[', b"{}", b"]}"),
    "empty parts": filled(b'{"messages":[{"role":"user","content":[', b"{}", b"]}]}"),
    "empty tools": filled(b'{"messages":[],"tools":[', b"{}", b"]}"),
    "biases": names(b'{"prompt":"x","logit_bias":{', b"}}"),
    "unknown names": names(b'{"prompt":"x",', b"}"),
    "quotes": b'{"prompt":"' + b'\\"' * 3 * MIB,
    "open quotes": b'{"prompt":"' + b'"' * MANY,
    "lists in lists": b'{"prompt":' + b"[" * 900 + b"]" * 900 + b"}",
    "only brackets": b"[" * 4 * MIB,
    "a long number": b'{"prompt":"x","seed":' + b"9" * MIB + b"}",
    "a large name": b'{"prompt":"x","' + b"k" * MIB + b'":1}',
    "a large model": b'{"prompt":"x","model":"' + b"k" * MIB + b'"}',
    "a large user": b'{"prompt":"x","user":"' + b"k" * MIB + b'"}',
}


async def refusal(body: bytes) -> tuple[int, dict[str, str | None], str]:
    engine = FakeEngine()
    path = CHAT if body.startswith(b'{"messages"') else COMPLETIONS
    transport = httpx.ASGITransport(app_of(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post(path, content=body, headers={"content-type": "application/json"})
    assert not engine.opened
    error: dict[str, str | None] = answer.json()["error"]
    assert error["message"]
    return answer.status_code, error, answer.text


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_cheaply(name: str) -> None:
    body = BOMBS[name]
    tracemalloc.start()
    began = time.process_time()
    try:
        status, _, text = await refusal(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status in (400, 404)
    assert len(text) < 2000
    assert peak < 128 * MIB, f"{peak >> 20} MiB"
    assert time.process_time() - began < 10  # tracing makes it slow; without bounds it takes minutes


AMBIGUOUS = [
    (b'{"prompt":"x","prompt":"y"}', "prompt"),
    (b'{"messages":[{"role":"user","role":"system","content":"x"}]}', "role"),
    (b'{"prompt":"x","temperature":NaN}', "temperature"),
    (b'{"prompt":"x","temperature":1e999}', "temperature"),
    (b'{"prompt":"x","temperature":-Infinity}', "temperature"),
    (
        b'{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"a":[NaN]}}',
        "chat_template_kwargs",
    ),
    (b'{"prompt":"x","structured_outputs":{"json":{"const":1e999}}}', "structured_outputs"),
    (b'{"prompt":"x","seed":1e2}', "seed"),
    (b'{"prompt":"x","n":99999999999999999999}', "n"),
    (b'{"prompt":"x","model":"\\ud800"}', "model"),
    (b'{"prompt":"x","model":"\\udfff\\ud800"}', "model"),
    (
        b'{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"\\ud800":1}}',
        "chat_template_kwargs",
    ),
    (
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f",'
        b'"parameters":{"a":"\\ud800"}}}]}',
        "tools[0].function.parameters",
    ),
    (b'{"prompt":"\xff"}', None),
    (b'{"prompt":"\xed\xa0\x80"}', None),
    ('{"prompt":"x"}'.encode("utf-16"), None),
    (b'\xef\xbb\xbf{"prompt":"x"}', None),
]


@pytest.mark.parametrize(("body", "param"), AMBIGUOUS)
async def test_what_is_no_clear_request_is_refused(body: bytes, param: str | None) -> None:
    status, error, _ = await refusal(body)
    assert (status, error["param"]) == (400, param), error


async def test_the_refusal_of_a_large_body_comes_before_its_end() -> None:
    """Over a socket, with a length and in chunks: nobody waits for the rest, and the connection ends."""
    async with serving(FakeEngine(), max_body_bytes=1000) as port:
        for head in (b"Content-Length: 1001", b"Transfer-Encoding: chunked"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
            if b"chunked" in head:
                writer.write(b"3e9\r\n" + b"x" * 1001 + b"\r\n")  # no last chunk
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"
            writer.close()
            await writer.wait_closed()


async def test_every_route_reads_its_body_so() -> None:
    transport = httpx.ASGITransport(app_of(FakeEngine()))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
        with_body = [path for path, methods in paths.items() if "requestBody" in methods.get("post", {})]
        assert len(with_body) >= 4
        for path in with_body:
            answer = await http.post(path, content=b'{"twice":1,"twice":2}')
            assert answer.json()["error"]["message"] == "'twice' is there twice", path
