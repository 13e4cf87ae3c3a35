"""API keys in a file: who may ask a router, and how much. The keys themselves are not in it.

A key is `xpod-ID-SECRET` with a secret of 256 random bits. The file has SHA-256 of a random salt and the key: nobody
can try 2**256 secrets, so a slow hash, made for passwords that people choose, would only keep routers busy.
Knows: the file's form, and how a key is checked in constant time. Does not know: who asks, or what limits do.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xpod_runtime.errors import ConfigError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
MODE = 0o600
MOST_BYTES = 16 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
Count = Annotated[int, Field(ge=1, le=10**12)] | None


class StoredKey(BaseModel):
    """One key; `created` is a Unix time. No limit: as many as one likes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Field(pattern=NAME)]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: int
    requests_per_minute: Count = None
    tokens_per_minute: Count = None
    concurrent: Count = None

    def opens(self, key: str) -> bool:
        """Is it that key?"""
        return hmac.compare_digest(_hash(self.salt, key), self.hash)


class KeyFile(BaseModel):
    """All of them, by the order in which they were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keys: tuple[StoredKey, ...] = ()


def new_key(
    name: str,
    created: int,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrent: int | None = None,
) -> tuple[str, StoredKey]:
    """A key, which is nowhere else, and what to keep of it."""
    id, salt = secrets.token_hex(6), secrets.token_hex(16)
    key = f"xpod-{id}-{secrets.token_urlsafe(32)}"
    stored = StoredKey(
        id=id,
        name=name,
        salt=salt,
        hash=_hash(salt, key),
        created=created,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrent=concurrent,
    )
    return key, stored


def id_of(key: str) -> str:
    """The id that a key names; empty where it is none of ours."""
    parts = key.split("-", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "xpod" else ""


def read_keys(path: Path) -> tuple[StoredKey, ...]:
    """Raises ConfigError: it is not there, open to others, or no file of keys."""
    try:
        told = path.stat()
        if told.st_mode & _OTHERS:
            raise ConfigError(f"{path} is open to others: chmod 600 {path}")
        if told.st_size > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes")
        keys = KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise ConfigError(f"no API keys in {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{path} is not a file of API keys: {first['msg']}") from None
    if len({key.id for key in keys}) < len(keys):
        raise ConfigError(f"{path} has two keys of one id")
    return keys


def write_keys(path: Path, keys: tuple[StoredKey, ...]) -> None:
    """In one go: readers see the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(KeyFile(keys=keys).model_dump_json(indent=1, exclude_none=True) + "\n")
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + key.encode()).hexdigest()
