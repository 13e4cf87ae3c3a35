"""/v1/embeddings: no model here has any, and says so."""

from __future__ import annotations

import openai
import pytest

from router.api_fakes import FakeEngine, post
from router.test_api_server import client

EMBEDDINGS = "/v1/embeddings"


async def test_the_official_client_is_told_why() -> None:
    async with client(FakeEngine()) as api:
        with pytest.raises(openai.BadRequestError) as caught:
            await api.embeddings.create(model="fake", input=["a", "b"], dimensions=8)
        assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")
        (model,) = (await api.models.list()).data
    assert model.to_dict()["capabilities"] == {
        "completions": True,
        "chat": True,
        "responses": True,
        "tools": True,
        "structured_outputs": True,
        "embeddings": False,
    }


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": "a", "model": "other"}, 404, "model"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "foo": 1}, 400, "foo"),
    ],
)
async def test_what_else_is_wrong_is_told_first(body: dict[str, object], status: int, param: str) -> None:
    answer = await post(FakeEngine(), EMBEDDINGS, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
