"""What all sessions of a router share."""

from __future__ import annotations

from dataclasses import dataclass, field

from xpod.common.view import PodView
from xpod.router.admission import Admission
from xpod.router.counters import Counters
from xpod.router.placing import Placing
from xpod_runtime.bus import Bus
from xpod_runtime.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: without any worker, in the queue for a busy one, before a silent one is asked what it said, for an
    answer, before a silent one is asked whether it lives."""

    place: float = 30.0
    queue: float = 600.0
    silence: float = 2.0
    answer: float = 2.0
    doubt: float = 0.25


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sessions of a router share."""

    bus: Bus
    pod: str
    router: str
    view: PodView
    counters: Counters
    patience: Patience
    placing: Placing
    admission: Admission
    tracer: Tracer = field(default_factory=Tracer)
