"""A response in the background, and its router as a real process that dies, in a pod that NATS holds to its rights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pod.test_processes import status, xpod

MANY = 60
REQUEST: dict[str, Any] = {
    "model": "demo",
    "input": "What does os.path.join do?",
    "background": True,
    "max_output_tokens": 400,
    "extra_body": {"seed": 5, "ignore_eos": True, "return_token_ids": True},
}


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    sizes = ["--routers", "2", "--prefill", "1", "--decode", "1", "--experts", "2", "--mempool", "1"]
    up = xpod(
        "up", "--detach", "--secure", "--port", "0", *sizes, "--supervisors", "1", data=tmp_path / "data"
    )
    assert up.returncode == 0, up.stderr
    yield tmp_path / "data"
    down = xpod("down", data=tmp_path / "data")
    assert down.returncode == 0, down.stderr


def told(event: Any, id: str) -> dict[str, Any]:
    """The event, but for what names this response, or says when it was and what it found cached."""
    body: dict[str, Any] = event.model_dump(mode="json", exclude_unset=True)
    response = body.get("response", {})
    for name in ("id", "created_at", "completed_at", "usage"):
        response.pop(name, None)
    response.get("xpod", {}).pop("session", None)
    name = id.removeprefix("resp_")
    for item in (body, body.get("item", {}), *response.get("output", [])):
        for key in ("id", "item_id"):
            if key in item:
                item[key] = item[key].replace(name, "")
    return body


def test_another_router_tells_the_rest_to_the_last_event(data: Path) -> None:
    """Number for number and token for token what a response says whose router lives."""
    urls = status(data)["endpoints"]
    members = {member["id"]: member for member in status(data)["members"]}
    first, second = (openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) for url in urls)
    with first, second:
        unfaulted = first.responses.create(**REQUEST, stream=True)
        begun = next(unfaulted)
        expected = [told(event, begun.response.id) for event in (begun, *unfaulted)]
        response = first.responses.create(**REQUEST)
        assert response.status in ("queued", "in_progress")
        events = []
        victim = next(m for m in members.values() if m["detail"].get("url") == urls[0])
        for event in first.responses.retrieve(response.id, stream=True):
            events.append(told(event, response.id))
            if len(events) == MANY:
                break
        os.kill(victim["pid"], signal.SIGKILL)
        rest = second.responses.retrieve(response.id, stream=True, starting_after=MANY - 1)
        events += [told(event, response.id) for event in rest]
        assert len(events) > 2 * MANY
        assert events == expected
        final = second.responses.retrieve(response.id)
        assert (final.status, final.output_text) == (
            "incomplete",
            expected[-1]["response"]["output"][0]["content"][0]["text"],
        )
    said = "".join(log.read_text() for log in (data / "logs").glob("*.log"))
    assert "violation" not in said.lower()
    assert "the server refused" not in said
