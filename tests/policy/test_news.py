"""News: who applies them in order has the set, whatever is told at once and whenever somebody begins to listen."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xpod_policy.news import News

NAMES = st.integers(0, 6).map(lambda number: bytes([number]))


class Listening(RuleBasedStateMachine):
    """`self.now` is the set; one heard all news, another began with a list."""

    @initialize()
    def start(self) -> None:
        self.news = News()
        self.now: set[bytes] = set()
        self.heard: set[bytes] = set()
        self.late: set[bytes] = set()

    @rule(name=NAMES)
    def change(self, name: bytes) -> None:
        if name in self.now:
            self.now.discard(name)
            self.news.removed(name)
        else:
            self.now.add(name)
            self.news.added(name)

    @rule(limit=st.integers(1, 4))
    def tell(self, limit: int) -> None:
        came, went = self.news.take(limit)
        assert len(came) + len(went) <= limit
        assert not self.heard.intersection(came)
        assert self.heard.issuperset(went)
        for listener in (self.heard, self.late):
            listener.difference_update(went)
            listener.update(came)

    @rule()
    def begin(self) -> None:
        self.late = self.news.told(self.now)

    @invariant()
    def agrees(self) -> None:
        assert self.news.told(self.now) == self.heard
        assert bool(self.news) == (self.heard != self.now)

    def teardown(self) -> None:
        self.begin()
        while self.news:
            self.tell(3)
        assert self.heard == self.late == self.now


Listening.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=150, stateful_step_count=30
)
TestListening = Listening.TestCase


def test_what_came_and_went_is_no_news() -> None:
    news = News()
    news.added(b"a")
    news.removed(b"a")
    assert not news
    news.added(b"b")
    assert news.take(10) == ([b"b"], [])
    news.removed(b"b")
    news.added(b"b")
    assert not news


def test_what_went_is_told_first() -> None:
    news = News()
    for name in (b"a", b"b"):
        news.added(name)
    news.removed(b"x")
    assert news.take(2) == ([b"a"], [b"x"])
    assert news.take(2) == ([b"b"], [])
