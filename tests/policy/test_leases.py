"""The longest lease counts, until its time is over or it is given up."""

from __future__ import annotations

from xpod_policy.leases import Leases


def test_the_longest_counts() -> None:
    leases = Leases()
    for name, until in ((b"a", 5.0), (b"a", 3.0), (b"b", 4.0)):
        leases.hold(name, until)
    leases.expire(3.9)
    assert set(leases) == {b"a", b"b"}
    leases.expire(4.0)
    assert (set(leases), b"b" in leases, len(leases)) == ({b"a"}, False, 1)


def test_given_up_for_all() -> None:
    leases = Leases()
    leases.hold(b"a", 5.0)
    leases.release(b"a")
    leases.release(b"b")
    assert b"a" not in leases
    leases.hold(b"c", 9.0)
    leases.clear()
    assert len(leases) == 0
