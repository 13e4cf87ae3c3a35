"""Blocks on disk, which a node finds again when it starts anew.

The index says at once what is where; one thread carries it out, in the order in which it was asked, so that a block
that is being written is read after that, and a segment is read before it is dropped. What cannot be written is
forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from xpod.mempool.files import Files
from xpod.mempool.records import FILE_HEAD, HEADER_BYTES
from xpod.mempool.stored import Stored
from xpod_policy.segments import Place, Plan, Segments

T = TypeVar("T")


class Disk:
    """At most `budget` bytes of files in `directory`; 0 leaves the directory alone.

    `on_change` is told names that came, or went without having been deleted, before anybody else can look.
    """

    def __init__(self, directory: Path, budget: int) -> None:
        self.index = Segments(budget, len(FILE_HEAD), HEADER_BYTES)
        self.on_change: Callable[[Iterable[bytes]], None] = lambda names: None
        self._files = Files(directory)
        self._thread = ThreadPoolExecutor(1, "disk")
        self._closed = False

    def __contains__(self, name: bytes) -> bool:
        return name in self.index

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.index)

    async def open(self) -> None:
        """Take in what a former process left."""
        if self.index.budget:
            for found in await self._do(self._files.scan) or ():
                self.index.restore(*found)
            dropped = self.index.shrink()
            self.on_change(list(self.index))
            await self._do(lambda: self._files.drop(dropped))

    async def write(self, blocks: Mapping[bytes, Stored], held: Container[bytes] = ()) -> None:
        """Returns once they are written, those that can be; a block that is there already stays where it is.

        The oldest blocks make room, but for those of `held`.
        """
        work: list[tuple[Plan, bytes, Stored]] = []
        for name in (*blocks, *blocks):  # twice: the first round may have dropped some that were there
            plan = self.index.place(name, blocks[name].nbytes, held)
            if plan is not None:
                work.append((plan, name, blocks[name]))
        self.on_change([one for plan, name, _ in work for one in (name, *plan.lost)])
        if work:
            failed = await self._do(lambda: self._files.write(work))
            self._failed({name: plan.place for plan, name, _ in work if failed is None or name in failed})

    async def read(self, names: Sequence[bytes]) -> dict[bytes, Stored]:
        """Those that are here and sound; the others are not here from now on."""
        places = {name: place for name in names if (place := self.index.find(name)) is not None}
        found = (await self._do(lambda: self._files.read(places)) if places else None) or {}
        lost = [
            name for name, place in places.items() if name not in found and self.index.find(name) == place
        ]
        self.forget(lost)
        self.on_change(lost)
        return found

    def forget(self, names: Iterable[bytes]) -> None:
        """These are not here any more, nor after a restart."""
        places = {name: place for name in names if (place := self.index.forget(name)) is not None}
        if places and not self._closed:
            self._thread.submit(self._files.forget, places)

    async def clear(self) -> None:
        """Nothing is here any more."""
        names = list(self.index)
        numbers = self.index.clear()
        self.on_change(names)
        await self._do(lambda: self._files.drop(numbers))

    def close(self) -> None:
        """Returns once what was asked for is done."""
        self._closed = True
        self._thread.shutdown()
        self._files.close()

    def _failed(self, places: Mapping[bytes, Place]) -> None:
        for name, place in places.items():
            self.index.seal(place.segment)
            if self.index.find(name) == place:
                self.index.forget(name)
        self.on_change(places)

    async def _do(self, work: Callable[[], T]) -> T | None:
        """None after `close`. Who is cancelled waits for the end: what is written must stay as it is until then."""
        if self._closed:
            return None
        doing = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait([doing])
            raise
