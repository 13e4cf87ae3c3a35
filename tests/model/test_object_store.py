"""Compiled code is used again, and only if it is exactly what this user wrote."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xpod_model.kernels.object_store import ObjectStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return ObjectStore.of("module", "cpu")


def the_file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "xpod" / "kernels").iterdir()
    return found


def test_what_was_written_is_read(store: ObjectStore, tmp_path: Path) -> None:
    assert store.read() is None
    store.write(b"code")
    assert store.read() == b"code"
    assert ObjectStore.of("module", "cpu").read() == b"code"
    assert the_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_anything_else_it_depends_on_is_another_file(store: ObjectStore) -> None:
    store.write(b"code")
    assert ObjectStore.of("module", "other cpu").read() is None
    assert ObjectStore.of("modulecpu").read() is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 32 + b"code"])
def test_a_damaged_file_is_none(store: ObjectStore, tmp_path: Path, damage: bytes) -> None:
    store.write(b"code")
    the_file(tmp_path).write_bytes(damage)
    assert store.read() is None
    store.write(b"code")
    assert store.read() == b"code"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_run(store: ObjectStore, tmp_path: Path, mode: int) -> None:
    store.write(b"code")
    the_file(tmp_path).chmod(mode)
    assert store.read() is None


def test_nowhere_to_write_to(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "xpod").write_text("a file where a directory should be")
    store.write(b"code")
    assert store.read() is None


def test_what_is_there_is_not_made_again(store: ObjectStore) -> None:
    assert store.get(lambda: b"first") == b"first"
    assert store.get(lambda: b"second") == b"first"


def test_without_a_place_it_is_made_each_time(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "xpod").write_text("a file where a directory should be")
    assert store.get(lambda: b"first") == b"first"
    assert store.get(lambda: b"second") == b"second"


def test_of_several_at_once_one_makes_it(store: ObjectStore) -> None:
    made, barrier = [], threading.Barrier(4)

    def make() -> bytes:
        made.append(1)
        return b"code"

    def get() -> bytes:
        barrier.wait()
        return store.get(make)

    with ThreadPoolExecutor(4) as pool:
        assert [done.result() for done in [pool.submit(get) for _ in range(4)]] == [b"code"] * 4
    assert len(made) == 1
