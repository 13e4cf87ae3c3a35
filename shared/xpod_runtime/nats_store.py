"""The store on JetStream: a key-value bucket, held by three NATS nodes where there are so many.

Knows: nats-py's JetStream, which of its errors mean what. Does not know: what is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.js import errors as js_errors
from nats.js.api import DiscardPolicy, KeyValueConfig, StorageType
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

from xpod_proto import DecodeError, Message
from xpod_proto.codec import decode, encode
from xpod_runtime.errors import StoreError
from xpod_runtime.store import Bounds, Entry, Store

ANSWER_SECONDS = 2.0
REPLICAS = 3
OTHER_SETTINGS = 10058
"""The server's code for a bucket that exists with other settings; it serves as well."""

log = structlog.get_logger(__name__)
R = TypeVar("R")


class NatsStore(Store):
    """Bucket `name`, made at the first use. `lifetime` in seconds; who has `bounds` sets them for everybody."""

    def __init__(self, client: Client, name: str, lifetime: float, bounds: Bounds | None = None) -> None:
        self._client = client
        self._bounds = bounds
        self._js: JetStreamContext = client.jetstream(timeout=ANSWER_SECONDS)
        self._name, self._lifetime = name, lifetime
        self._stream = f"KV_{name}"
        self._bucket: KeyValue | None = None
        self._opening = asyncio.Lock()

    async def put(self, key: str, message: Message) -> None:
        async def put(bucket: KeyValue) -> int:
            return await bucket.put(key, encode(message))

        await self._ask(put)

    async def get(self, key: str) -> Entry | None:
        async def get(bucket: KeyValue) -> Entry | None:
            try:
                found = await bucket.get(key)
            except js_errors.KeyNotFoundError:
                return None
            return Entry(_message(key, found.value), found.revision or 0)

        return await self._ask(get)

    async def claim(self, key: str, message: Message, revision: int) -> int | None:
        async def claim(bucket: KeyValue) -> int | None:
            try:
                return await bucket.update(key, encode(message), last=revision)
            except js_errors.KeyWrongLastSequenceError:
                return None

        return await self._ask(claim)

    async def below(self, prefix: str) -> dict[str, Message]:
        """Key by key: a watcher would leave a consumer behind, and waits for ever for what is dropped meanwhile."""
        start = f"$KV.{self._name}.{prefix}."

        async def keys(_: KeyValue) -> list[str]:
            info = await self._js.stream_info(self._stream, subjects_filter=start + ">")
            return [subject.removeprefix(start) for subject in info.state.subjects or ()]

        found = await self._ask(keys)
        entries = await asyncio.gather(*(self.get(f"{prefix}.{key}") for key in found))
        return {key: entry.message for key, entry in zip(found, entries, strict=True) if entry is not None}

    async def leader(self) -> str:
        async def leader(_: KeyValue) -> str:
            cluster = (await self._js.stream_info(self._stream)).cluster
            return (cluster.leader or "") if cluster is not None else ""

        return await self._ask(leader)

    async def drop(self, prefix: str) -> None:
        async def drop(_: KeyValue) -> bool:
            return await self._js.purge_stream(self._stream, subject=f"$KV.{self._name}.{prefix}.>")

        await self._ask(drop)

    async def _ask(self, work: Callable[[KeyValue], Awaitable[R]]) -> R:
        if not self._client.is_connected:
            raise StoreError("no connection")
        try:
            return await work(await self._open())
        except (
            js_errors.NotFoundError,
            js_errors.NoStreamResponseError,
        ) as error:  # the next use makes it again
            self._bucket = None
            raise StoreError(f"bucket {self._name}: {error}") from error
        except (nats_errors.Error, TimeoutError, OSError) as error:
            raise StoreError(f"bucket {self._name}: {error or type(error).__name__}") from error

    async def _open(self) -> KeyValue:
        async with self._opening:
            if self._bucket is None:
                self._bucket = await self._make()
            return self._bucket

    async def _make(self) -> KeyValue:
        replicas = REPLICAS if len(self._client.servers) >= REPLICAS else 1
        wanted = KeyValueConfig(self._name, ttl=self._lifetime, storage=StorageType.FILE, replicas=replicas)
        try:
            bucket = await self._js.create_key_value(wanted)
        except js_errors.BadRequestError as error:
            if error.err_code != OTHER_SETTINGS:
                raise
            bucket = await self._js.key_value(self._name)
        else:
            log.info("bucket", name=self._name, replicas=replicas)
        if self._bounds is not None:
            await self._bound(self._bounds)
        return bucket

    async def _bound(self, bounds: Bounds) -> None:
        """A bucket of nats-py refuses writes when it is full; this one forgets instead."""
        config = (await self._js.stream_info(self._stream)).config
        wanted = config.evolve(
            max_msgs=bounds.keys,
            max_bytes=bounds.bytes,
            max_age=self._lifetime,
            discard=DiscardPolicy.OLD,
        )
        if wanted != config:
            await self._js.update_stream(wanted)


def _message(key: str, value: bytes | None) -> Message:
    try:
        return decode(value or b"")
    except DecodeError as error:
        raise StoreError(f"{key} holds what is not a message: {error}") from error
