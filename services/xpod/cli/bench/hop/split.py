"""One exchange, cut into the parts of its time.

Knows: along which way the parts lie: that of the call whose answer came last.
Does not know: how the times were taken. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

MS = 1000
PARTS = ("pack", "bus", "queue", "compute", "unpack")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one exchange, in seconds of one clock.

    `packed` is when the last answer's call was ready to be sent, with those that left along with it; `asked` when
    `Hop.begin` was done, `came` when reading began of what the last answer came with.
    """

    began: float
    packed: float
    asked: float
    came: float
    ended: float


@dataclass(frozen=True, slots=True)
class Split:
    """In ms. The parts from `pack` to `unpack` follow one another and add up to `whole`."""

    whole: float
    pack: float
    bus: float
    queue: float
    compute: float
    unpack: float
    begin: float
    """All of `Hop.begin`: `pack` and the sending."""

    @classmethod
    def of(cls, times: Times, queued_us: int, computed_us: int) -> Split:
        """`queued_us` and `computed_us`: as the shard said in the last answer."""
        away = (times.came - times.packed) * MS
        queue, compute = queued_us / 1000, computed_us / 1000
        return cls(
            whole=(times.ended - times.began) * MS,
            pack=(times.packed - times.began) * MS,
            bus=away - queue - compute,
            queue=queue,
            compute=compute,
            unpack=(times.ended - times.came) * MS,
            begin=(times.asked - times.began) * MS,
        )

    @property
    def rest(self) -> float:
        """All but compute: what the way costs."""
        return self.whole - self.compute

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in (asdict(self) | {"rest": self.rest}).items()}
