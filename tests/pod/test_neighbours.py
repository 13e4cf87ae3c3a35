"""Whoever speaks to members knows which of them share its memory, whenever it came."""

from __future__ import annotations

from xpod.common.neighbours import Neighbours


class Told:
    """A speaker that keeps what it is told."""

    def __init__(self) -> None:
        self.near: dict[str, str] = {}

    def meet(self, subject: str, token: str) -> None:
        self.near[subject] = token

    def forget(self, subject: str) -> None:
        self.near.pop(subject, None)


def test_members_come_go_and_come_back() -> None:
    neighbours, early, late = Neighbours("p"), Told(), Told()
    neighbours.introduce(early)
    neighbours.arrived("decode", "d-0", "t1")
    neighbours.arrived("expert", "e-0", "t2")
    neighbours.introduce(late)
    expert = {"p.v1.expert.e-0": "t2", "p.v1.expert.e-0.calls": "t2"}
    assert early.near == late.near == {"p.v1.decode.d-0": "t1", **expert}
    neighbours.gone("decode", "d-0")
    assert early.near == late.near == expert
    neighbours.back("decode", "d-0")
    assert early.near["p.v1.decode.d-0"] == "t1"
    neighbours.arrived("decode", "d-0", "")
    assert late.near["p.v1.decode.d-0"] == ""
