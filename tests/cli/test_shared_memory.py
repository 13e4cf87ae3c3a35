"""The directory that a local pod's members share: made for the user alone, and gone with the pod."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from xpod.cli import shared_memory
from xpod.cli.shared_memory import can_share, provide, remove, shared_directory
from xpod_runtime.frames import Frames


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shared_directory("pod-1", tmp_path)


def test_it_is_the_user_s_alone(directory: Path) -> None:
    provide(directory)
    directory.chmod(0o777)
    provide(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_somebody_else_s_is_not_used(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.parent.joinpath("elsewhere").mkdir()
    directory.symlink_to(directory.parent / "elsewhere")
    with pytest.raises(PermissionError, match="somebody else's"):
        provide(directory)
    remove(directory)
    assert directory.is_symlink()
    directory.unlink()
    provide(directory)
    monkeypatch.setattr("os.getuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="somebody else's"):
        provide(directory)
    remove(directory)
    assert directory.exists()


def test_it_goes_with_the_last_who_uses_it(directory: Path) -> None:
    provide(directory)
    living = Frames(directory, least=1)
    living.meet("near", living.token)
    assert living.put("near", [b"x"])
    (directory / "00.frames").write_bytes(b"left by the dead")
    remove(directory)
    assert len(list(directory.glob("*.frames"))) == 1
    living.close()
    remove(directory)
    assert not directory.exists()
    remove(directory)


def test_there_must_be_memory_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_is_tmpfs", lambda path: True)
    assert not can_share(tmp_path / "none")
    monkeypatch.setattr(shared_memory, "ENOUGH", 1)
    assert can_share(tmp_path)
    monkeypatch.setattr(shared_memory, "ENOUGH", 1 << 62)
    assert not can_share(tmp_path)


def test_a_disk_is_not_memory() -> None:
    assert not can_share(Path("/"))
