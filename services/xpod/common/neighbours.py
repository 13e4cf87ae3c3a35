"""Who of the pod shares this host's memory, told to whatever speaks to them.

Knows: hellos' tokens and members' subjects. Does not know: how memory is shared (see `xpod_runtime.frames`).
"""

from __future__ import annotations

from typing import Protocol

from xpod_proto import subjects


class Speaker(Protocol):
    """A bus, or a line's frames."""

    def meet(self, subject: str, token: str) -> None: ...

    def forget(self, subject: str) -> None: ...


class Neighbours:
    """All members' tokens, by subject; a speaker that comes later is told what is known."""

    def __init__(self, pod: str) -> None:
        self._pod = pod
        self._speakers: list[Speaker] = []
        self._known: dict[str, str] = {}

    def introduce(self, speaker: Speaker) -> None:
        """Tell `speaker` who is near, now and from now on."""
        self._speakers.append(speaker)
        for subject, token in self._known.items():
            speaker.meet(subject, token)

    def arrived(self, kind: str, member: str, token: str) -> None:
        """A member said hello with this token."""
        for subject in self._subjects(kind, member):
            self._known[subject] = token
            for speaker in self._speakers:
                speaker.meet(subject, token)

    def gone(self, kind: str, member: str) -> None:
        """A member is down."""
        for subject in self._subjects(kind, member):
            for speaker in self._speakers:
                speaker.forget(subject)

    def back(self, kind: str, member: str) -> None:
        """It was only silent for long: it is the same process."""
        self.arrived(kind, member, self._known.get(self._subjects(kind, member)[0], ""))

    def _subjects(self, kind: str, member: str) -> list[str]:
        mailbox = subjects.mailbox(self._pod, kind, member)
        return [mailbox, subjects.calls(self._pod, member)] if kind == "expert" else [mailbox]
