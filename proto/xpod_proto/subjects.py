"""Every subject of a pod, in one place. Ids are checked, so that no id can widen a subscription."""

from __future__ import annotations

import re

from xpod_proto.errors import DecodeError

VERSION = "v1"
KINDS = ("router", "prefill", "decode", "expert", "mempool", "supervisor")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_token(value: str) -> None:
    """Raises DecodeError where no member can have that name."""
    if not _TOKEN.fullmatch(value):
        raise DecodeError(f"not a name: {value!r}")


def _token(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"not a subject token: {value!r} (letters, digits, - and _, at most 64)")
    return value


def mailbox(pod: str, kind: str, member: str) -> str:
    """The private mailbox of one member."""
    return f"{_token(pod)}.{VERSION}.{_token(kind)}.{_token(member)}"


def mailboxes(pod: str, kind: str) -> str:
    """Those of all members of one kind, as a server's permissions name them."""
    return f"{_token(pod)}.{VERSION}.{_token(kind)}.*"


def inbox(pod: str, kind: str) -> str:
    """What the subjects begin with that answers to one kind of member come to."""
    return f"_INBOX.{_token(pod)}.{_token(kind)}"


def inboxes(pod: str, kind: str) -> str:
    """All of them."""
    return f"{inbox(pod, kind)}.>"


def calls(pod: str, shard: str) -> str:
    """The calls of one expert shard: apart from its mailbox, because the thread that computes reads them itself."""
    return f"{mailbox(pod, 'expert', shard)}.calls"


def all_calls(pod: str) -> str:
    """Those of all shards."""
    return f"{mailboxes(pod, 'expert')}.calls"


def all_tokens(pod: str) -> str:
    """The token streams of all sessions."""
    return f"{_token(pod)}.{VERSION}.tokens.*"


def tokens(pod: str, session: str) -> str:
    """The token stream of one session."""
    return f"{_token(pod)}.{VERSION}.tokens.{_token(session)}"


def generate(pod: str) -> str:
    """The queue group of the routers."""
    return f"{_token(pod)}.{VERSION}.generate"


def hello(pod: str) -> str:
    """Members introduce themselves here; RollCall asks everyone to."""
    return f"{_token(pod)}.{VERSION}.hello"


def heartbeat(pod: str, kind: str) -> str:
    """Heartbeats of the members of one kind: nobody needs to hear all of them but routers."""
    return f"{_token(pod)}.{VERSION}.heartbeat.{_token(kind)}"


def probes(pod: str) -> str:
    """The probes of all members."""
    return f"{_token(pod)}.{VERSION}.probe.*"


def probe(pod: str, member: str) -> str:
    """Who doubts that a member lives asks here; its event loop answers."""
    return f"{_token(pod)}.{VERSION}.probe.{_token(member)}"


def doubt(pod: str) -> str:
    """Who got no answer says so here: others that watch the member ask it, too."""
    return f"{_token(pod)}.{VERSION}.doubt"


def down(pod: str) -> str:
    """Departures: a member's own good-bye, or a verdict about it."""
    return f"{_token(pod)}.{VERSION}.down"


def holdings(pod: str) -> str:
    """What expert shards say they hold."""
    return f"{_token(pod)}.{VERSION}.holdings"


def placement(pod: str) -> str:
    """Which shard should hold which expert."""
    return f"{_token(pod)}.{VERSION}.placement"


def running(pod: str) -> str:
    """What workers say that they compute, for routers that know better."""
    return f"{_token(pod)}.{VERSION}.running"


def kv(pod: str) -> str:
    """MemPool's events: blocks stored and evicted."""
    return f"{_token(pod)}.{VERSION}.kv"


def sessions_bucket(pod: str) -> str:
    """The store of the journal of sessions."""
    return f"{_token(pod)}-sessions"


def responses_bucket(pod: str) -> str:
    """The store of responses, which are read again."""
    return f"{_token(pod)}-responses"


def shelf_bucket(pod: str) -> str:
    """The store of what the pod keeps about itself."""
    return f"{_token(pod)}-pod"
