"""What a request does not say, the model's generation_config says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.api_fakes import FakeEngine, app_of, says
from xpod_model.config import sampling_defaults
from xpod_model.errors import ConfigError

DEFAULTS = {"temperature": 0.6, "top_k": 20}


@pytest.mark.parametrize(
    ("said", "temperature", "top_k"),
    [
        ({}, 0.6, 20),
        ({"temperature": 1.0}, 1.0, 20),
        ({"temperature": 0, "top_k": 0}, 0.0, 0),
        ({"temperature": None}, 0.6, 20),
    ],
)
async def test_the_request_wins(said: dict[str, Any], temperature: float, top_k: int) -> None:
    engine = FakeEngine(*says("ok"))
    transport = httpx.ASGITransport(app_of(engine, sampling_defaults=DEFAULTS))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post("/v1/completions", json={"prompt": "x", "max_tokens": 2, **said})
    assert answer.status_code == 200
    spec = engine.opened[0][1]
    assert (spec.temperature, spec.top_k) == (temperature, top_k)


def test_reading_generation_config(tmp_path: Path) -> None:
    assert sampling_defaults(tmp_path) == {}
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.7, "top_p": None, "do_sample": True, "eos_token_id": 3}))
    assert sampling_defaults(tmp_path) == {"temperature": 0.7}
    path.write_text(json.dumps({"top_p": "much"}))
    with pytest.raises(ConfigError, match="top_p is 'much', which is not a number"):
        sampling_defaults(tmp_path)
