"""Which subjects each kind of service may send to and hear: what a NATS server holds its users to.

Knows: subjects, and who asks whom. Does not know: users, keys, or how a server is told (see
`xpod_runtime.broker_access`).

Answers go to inboxes that name the kind of their owner, so a kind may answer those kinds that ask it and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpod_proto import subjects

WATCHES = {
    "router": subjects.KINDS,
    "prefill": ("expert", "mempool"),
    "decode": ("expert", "mempool", "decode"),
    "expert": ("expert",),
    "mempool": ("mempool",),
    "supervisor": ("expert", "supervisor"),
}
"""Whose heartbeats a kind hears, and whom it asks whether they live."""
_ASKS = {
    "router": subjects.KINDS,
    "prefill": ("mempool",),
    "decode": ("mempool",),
    "expert": ("expert",),
    "mempool": ("mempool",),
    "supervisor": (),
}
"""Into whose mailboxes a kind puts requests."""
_TELLS = {"prefill": ("router",), "decode": ("router",)}
"""Into whose mailboxes it puts news."""
_CALLS = ("prefill", "decode")
"""Kinds that call experts."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Subjects, with wildcards, that a connection may publish to and subscribe to; all others are refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def rights(pod: str, kind: str) -> Rights:
    """What a member of `kind` needs in `pod`."""
    publish = [
        *_said_to_all(pod, kind),
        *(subjects.mailboxes(pod, other) for other in (*_ASKS[kind], *_TELLS.get(kind, ()))),
        subjects.probes(pod),
        *(subjects.inboxes(pod, other) for other in _talks_with(kind)),
        *_store_requests(pod, kind),
    ]
    subscribe = [
        subjects.inboxes(pod, kind),
        subjects.mailboxes(pod, kind),
        subjects.probes(pod),
        *(subjects.heartbeat(pod, other) for other in (*WATCHES[kind], kind)),
        *_heard_from_all(pod, kind),
    ]
    if kind in _CALLS:
        publish.append(subjects.all_calls(pod))
    if kind == "expert":
        subscribe.append(subjects.all_calls(pod))
    return Rights(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(subscribe)))


def _said_to_all(pod: str, kind: str) -> list[str]:
    own = {
        "prefill": [subjects.running(pod), subjects.kv(pod), subjects.all_tokens(pod)],
        "decode": [subjects.running(pod), subjects.all_tokens(pod)],
        "expert": [subjects.holdings(pod)],
        "mempool": [subjects.kv(pod)],
        "supervisor": [subjects.placement(pod)],
    }
    always = [subjects.hello(pod), subjects.down(pod), subjects.doubt(pod), subjects.heartbeat(pod, kind)]
    return [*always, *own.get(kind, ())]


def _heard_from_all(pod: str, kind: str) -> list[str]:
    own = {
        "router": [subjects.running(pod), subjects.kv(pod), subjects.all_tokens(pod), subjects.holdings(pod)],
        "prefill": [subjects.holdings(pod)],
        "decode": [subjects.holdings(pod)],
        "expert": [subjects.placement(pod), subjects.holdings(pod)],
        "supervisor": [subjects.placement(pod), subjects.holdings(pod)],
    }
    return [subjects.hello(pod), subjects.down(pod), subjects.doubt(pod), *own.get(kind, ())]


def _talks_with(kind: str) -> tuple[str, ...]:
    """Kinds whose inboxes it sends to: those that ask it, and those that it sends to in pieces."""
    asks = {
        each: {*_ASKS[each], *_TELLS.get(each, ()), *WATCHES[each], *(("expert",) if each in _CALLS else ())}
        for each in subjects.KINDS
    }
    return tuple(other for other in subjects.KINDS if other in asks[kind] or kind in asks[other])


def _store_requests(pod: str, kind: str) -> list[str]:
    """Of JetStream's interface, what reads a bucket; for whoever keeps something there, what writes it too."""
    sessions, shelf = subjects.sessions_bucket(pod), subjects.shelf_bucket(pod)
    responses = subjects.responses_bucket(pod)
    match kind:
        case "router":
            bounds = f"$JS.API.STREAM.UPDATE.KV_{responses}"
            return [each for bucket in (sessions, responses) for each in _writes(bucket)] + [bounds]
        case "supervisor":
            return _writes(shelf)
        case "expert":
            return _reads(shelf)
        case _:
            return []


def _reads(bucket: str) -> list[str]:
    reads = [f"$JS.API.STREAM.{verb}.KV_{bucket}" for verb in ("CREATE", "INFO", "MSG.GET")]
    return [*reads, f"$JS.API.DIRECT.GET.KV_{bucket}.>"]


def _writes(bucket: str) -> list[str]:
    return [*_reads(bucket), f"$KV.{bucket}.>", f"$JS.API.STREAM.PURGE.KV_{bucket}"]
