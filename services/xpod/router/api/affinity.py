"""What ties a request to others: whose it is, and which conversation it belongs to.

Knows: tenants are told apart by their API keys, and apart they stay: one never sees from the time an answer takes
whether another has sent the same prompt. Does not know: what becomes of KV caches or workers for that.
"""

from __future__ import annotations

import hashlib

from starlette.types import Scope

from xpod.router.api.engine_protocol import Affinity
from xpod.router.api.requests import GenerationRequest

TENANT = "tenant"
DIGEST_BYTES = 16


def admit_as(scope: Scope, key: bytes) -> None:
    """The request is that of whoever has this key, or is named so; call it where there are several."""
    scope.setdefault("state", {})[TENANT] = key


def tenant_of(scope: Scope) -> bytes:
    """The key that the request came with, where there are several; else empty."""
    key: bytes = scope.get("state", {}).get(TENANT, b"")
    return key


def tenant_name(scope: Scope) -> str:
    """The tenant, without its key; empty where there are not several."""
    return owner_of(tenant_of(scope))


def affinity_of(request: GenerationRequest, tenant: bytes) -> Affinity:
    """Equal for every try of a request by one client, at any router with the same keys."""
    conversation = request.prompt_cache_key or request.user or ""
    salt = _salt(tenant, request.cache_salt or "")
    return Affinity(salt, conversation, owner_of(tenant), request.priority)


def owner_of(tenant: bytes) -> str:
    """The same as `Affinity.tenant`, of any request by that tenant."""
    return _salt(tenant, "")


def _salt(tenant: bytes, wanted: str) -> str:
    """A digest of both; empty where both are. A tenant has no zero byte, so that no two pairs are alike."""
    if not tenant and not wanted:
        return ""
    return hashlib.blake2b(tenant + b"\0" + wanted.encode(), digest_size=DIGEST_BYTES).hexdigest()
