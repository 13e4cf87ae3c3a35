"""A small service that the process test starts, with switches to make it fail."""

from __future__ import annotations

import sys
from typing import ClassVar

from xpod_proto import Ack, FetchBlocks, Message
from xpod_runtime.actor import Actor
from xpod_runtime.config import ServiceConfig
from xpod_runtime.handlers import handles
from xpod_runtime.process import main
from xpod_runtime.span_names import POOL_FETCH
from xpod_runtime.supervision import ChildSpec


class ExampleConfig(ServiceConfig):
    kind: ClassVar[str] = "mempool"
    fault: str = ""


class Example(Actor):
    kind = "mempool"

    async def setup(self) -> None:
        assert isinstance(self.config, ExampleConfig)
        if self.config.fault == "setup":
            raise ValueError("no weights here")
        if self.config.fault == "child":
            self.tree.add(ChildSpec("sick", self.fail))

    async def fail(self) -> None:
        raise RuntimeError("sick")

    @handles(FetchBlocks)
    async def on_fetch(self, message: FetchBlocks) -> Message:
        with self.tracer.span(POOL_FETCH):
            return Ack(str(len(message.names)))


if __name__ == "__main__":
    sys.exit(main(Example, ExampleConfig))
