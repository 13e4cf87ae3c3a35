"""`Idempotency-Key`: a request that is repeated with the same key is answered, not run again.

Knows: how the key names its sessions, so that any router finds them, and what makes two requests the same.
Does not know: who remembers a session, or for how long.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from starlette.datastructures import Headers

from xpod.router.api.errors import bad_request
from xpod.router.api.requests import Sampled

HEADER = "idempotency-key"
REPLAYED_HEADER = "idempotent-replayed"
LONGEST = 255
HOW_IT_IS_TOLD = {"stream", "stream_options", "user", "prompt_cache_key", "timeout"}
"""What may differ between two tries of one request."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key in the hands of one client; another client's equal key is another one."""

    digest: bytes

    @classmethod
    def of(cls, headers: Headers) -> Key | None:
        """None where there is none. Raises ApiError."""
        text = headers.get(HEADER)
        if text is None:
            return None
        if not 0 < len(text) <= LONGEST:
            raise bad_request(f"an Idempotency-Key has 1 to {LONGEST} characters", HEADER)
        client = headers.get("authorization", "")
        return cls(hashlib.sha256(f"{client}\n{text}".encode()).digest())

    def session(self, choice: int) -> str:
        """The session of that choice."""
        return f"s{self.digest.hex()[:24]}" + (f"x{choice}" if choice else "")

    @property
    def seed(self) -> int:
        """For a request that names none (63 bits): every try draws the same tokens."""
        return int.from_bytes(self.digest[-8:], "big") >> 1


def digest_of(request: Sampled) -> bytes:
    """Equal for two tries of one request."""
    body = json.dumps(request.model_dump(exclude=HOW_IT_IS_TOLD))  # half a surrogate pair has a form there
    return hashlib.sha256(f"{type(request).__name__}\n{body}".encode()).digest()
