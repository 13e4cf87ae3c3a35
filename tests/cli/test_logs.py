"""`xpod logs`: lines of all members in order of time, of JSON, of nats-server and of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xpod.cli import log_command
from xpod.cli.errors import CliError
from xpod.cli.log_command import logs
from xpod.cli.log_files import LogFile
from xpod.cli.log_lines import EARLIEST, Reader
from xpod.cli.logs import keep_small, rotate
from xpod.cli.main import run_command

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def service(seconds: float, event: str, level: str = "info", **fields: object) -> str:
    at = (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return json.dumps({**fields, "event": event, "pod": "p", "member": "m", "level": level, "timestamp": at})


def nats(seconds: float, text: str, level: str = "INF") -> str:
    at = (NOON + timedelta(seconds=seconds)).astimezone()
    return f"[42] {at:%Y/%m/%d %H:%M:%S.%f} [{level}] {text}"


READ = {
    "a service": (service(1, "member", who="decode-0", was=None), 1, "info", "member  who=decode-0 was=null"),
    "words are quoted": (service(1, "no", "error", error="it broke"), 1, "error", 'no  error="it broke"'),
    "with a traceback": (service(1, "no", "error", exception="Trace"), 1, "error", "no\nTrace"),
    "nats": (nats(2.5, "Server is ready"), 2.5, "info", "Server is ready"),
    "nats warns": (nats(2.5, "JetStream", "WRN"), 2.5, "warning", "JetStream"),
    "other text": ("Traceback", None, "", "Traceback"),
    "JSON of others": ('{"a": 1}', None, "", '{"a": 1}'),
}


@pytest.mark.parametrize("case", READ)
def test_a_line_is_read(case: str) -> None:
    raw, seconds, level, text = READ[case]
    line = Reader("m").read(raw)
    assert line.at == (EARLIEST if seconds is None else NOON + timedelta(seconds=seconds))
    assert (line.level, line.text, line.raw) == (level, text, raw)


def test_text_without_a_time_belongs_to_the_line_before_it() -> None:
    lines = list(Reader("m").read_all([service(3, "no", "error"), "Traceback:", "", "  File"]))
    assert [line.at for line in lines] == [NOON + timedelta(seconds=3)] * 3
    assert [line.level for line in lines] == ["error"] * 3


@pytest.mark.parametrize(
    ("level", "least", "matters"),
    [("debug", "info", False), ("info", "info", True), ("error", "warning", True), ("", "error", True)],
)
def test_what_matters(level: str, least: str, matters: bool) -> None:
    assert Reader("m").read(service(0, "x", level)).matters(least) is matters


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    decode = [service(1, "one"), service(4, "four", "warning"), service(3, "three, late")]
    (folder / "decode-0.log").write_text("\n".join(decode) + "\n")
    (folder / "nats-0.log").write_text(nats(2, "two") + "\n" + nats(5, "five", "ERR") + "\n")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The last word of each line."""
    return [line.split()[-1] for line in capsys.readouterr().out.splitlines()]


def test_members_are_shown_in_order_of_time(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs(data=data) == 0
    assert said(capsys) == ["one", "two", "late", "four", "five"]


SHOWN = {
    "one member": (["nats-0"], ["two", "five"]),
    "the last ones": (["-n", "2"], ["four", "five"]),
    "all of them": (["-n", "0"], ["one", "two", "late", "four", "five"]),
    "warnings": (["--level", "warning"], ["four", "five"]),
    "with a text": (["--grep", "three"], ["late"]),
    "nothing": (["--grep", "no such thing"], []),
}


@pytest.mark.parametrize("case", SHOWN)
def test_what_is_asked_for_is_shown(case: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, shown = SHOWN[case]
    assert run_command(["logs", *options, "--data", str(data)]) == 0
    assert said(capsys) == shown


def test_raw_lines_are_as_they_were_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(["decode-0"], raw=True, lines=1, data=data)
    assert json.loads(capsys.readouterr().out)["event"] == "four"


def test_a_wrong_name_is_told_who_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"no log of decode-9 .there are decode-0, nats-0"):
        logs(["decode-9"], data=data)
    with pytest.raises(CliError, match="no logs in"):
        logs(data=tmp_path / "elsewhere")


def test_following_goes_on_with_what_comes(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "logs" / "decode-0.log"

    def append() -> None:
        with path.open("a") as stream:
            stream.write(service(6, "six") + "\n" + service(7, "seven")[:20])

    def complete() -> None:
        with path.open("a") as stream:
            stream.write(service(7, "seven")[20:] + "\n")

    def start_anew() -> None:
        path.replace(path.with_suffix(".log.old"))
        path.write_text(service(8, "eight") + "\n")

    steps: list[Callable[[], None]] = [append, complete, start_anew]

    def sleep(seconds: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(log_command.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        logs(follow=True, lines=1, data=data)
    assert said(capsys) == ["five", "six", "seven", "eight"]


def test_a_file_that_comes_later_is_read_then(tmp_path: Path) -> None:
    file = LogFile(tmp_path, "decode-0")
    assert list(file.lines()) == []
    (tmp_path / "decode-0.log").write_bytes(b"a\nb\xff\nc")
    assert list(file.lines()) == ["a", "b\N{REPLACEMENT CHARACTER}"]
    file.close()


def test_a_log_that_is_too_long_begins_anew_and_no_line_is_lost(tmp_path: Path) -> None:
    path, late = tmp_path / "decode-0.log", LogFile(tmp_path, "decode-0")
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a\nb\nc")
        keep_small(path, most=5)
        following = LogFile(tmp_path, "decode-0")
        assert list(following.lines()) == ["a", "b"]
        writer.write(b"c\nd\n")
        keep_small(path, most=5)
        assert path.stat().st_size == 0, "its writer goes on at its beginning"
        writer.write(b"e\n")
        assert list(following.lines()) == ["cc", "d", "e"]
        writer.write(b"f\n")
        assert list(following.lines()) == ["f"]
        assert list(late.lines()) == ["a", "b", "cc", "d", "e", "f"]
    following.close()
    late.close()


def test_what_a_pod_before_said_is_not_taken_for_earlier_lines(tmp_path: Path) -> None:
    path = tmp_path / "decode-0.log"
    path.write_bytes(b"a\n")
    keep_small(path, most=1)
    rotate(tmp_path)
    path.write_bytes(b"b\n")
    file = LogFile(tmp_path, "decode-0")
    assert list(file.lines()) == ["b"]
    file.close()
