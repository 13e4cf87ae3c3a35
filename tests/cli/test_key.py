"""`xpod key`, and what `xpod up` makes of keys, certificates and addresses that others reach."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path

import pytest
import trustme

from cli.conftest import Command
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.http_face import HttpFace
from xpod.cli.plan import MemberSpec
from xpod.cli.plan import environment as member_environment
from xpod.cli.process import ref_of
from xpod.cli.state import MemberState, PodState, write_state
from xpod.cli.trust import context, credentials
from xpod_runtime.addresses import is_loopback
from xpod_runtime.api_keys import read_keys


def test_a_key_is_made_listed_and_removed(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "d" / "api-keys.json"
    data = ("--data", str(tmp_path / "d"))
    made = command("key", "add", "ann", "--requests-per-minute", "5", "--concurrent", "2", *data)
    assert made.returncode == 0
    (key,) = made.stdout.split()
    (stored,) = read_keys(file)
    assert stored.opens(key)
    assert (stored.requests_per_minute, stored.tokens_per_minute, stored.concurrent) == (5, None, 2)
    assert command("key", "add", "bob", *data).returncode == 0
    listed = command("key", "list", *data)
    assert listed.stdout.count("\n") == 2
    assert f"{stored.id}" in listed.stdout
    assert "requests per minute: 5, concurrent: 2" in listed.stdout
    told = json.loads(command("key", "list", "--json", *data).stdout)
    assert [each["name"] for each in told["keys"]] == ["ann", "bob"]
    for secret in (key, stored.salt, stored.hash):
        assert secret not in listed.stdout + json.dumps(told)
    assert command("key", "remove", "ann", *data).returncode == 0
    assert command("key", "remove", read_keys(file)[0].id, *data).returncode == 0
    assert read_keys(file) == ()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_pod_that_runs_without_keys_is_mentioned(command: Command, tmp_path: Path) -> None:
    here = ref_of(os.getpid())
    member = MemberState("router-0", "router", here)
    write_state(PodState("pod", "m", str(tmp_path), here, [], [], members=[member]))
    assert "from its next start on" not in command("key", "add", "kim", "--file", str(tmp_path / "x")).stderr
    data = ("--data", str(tmp_path))
    said = [command("key", "add", name, *data).stderr for name in ("ann", "bob")]
    assert ["from its next start on" in each for each in said] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "ann"), "there is a key of the name ann"),
        (("add", "a b"), "is not a name"),
        (("add", "a\nb"), "is not a name"),
        (("add", "x", "--concurrent", "0"), "--concurrent"),
        (("remove", "nobody"), "there is no key of nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    file = str(tmp_path / "keys.json")
    assert command("key", "add", "ann", "--file", file).returncode == 0
    before = Path(file).read_bytes()
    result = command("key", *arguments, "--file", file)
    assert result.returncode == BAD_USAGE
    assert told in result.stderr
    assert Path(file).read_bytes() == before


def test_a_damaged_file_is_left_alone(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("{")
    file.chmod(0o600)
    result = command("key", "add", "ann", "--file", str(file))
    assert result.returncode != 0
    assert "is not a file of API keys" in result.stderr
    assert file.read_text() == "{"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
    + [(each, False) for each in ("0.0.0.0", "::", "10.0.0.1", "a.example", "", "127.0.0.1.example")],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_up_refuses_to_be_open_by_accident(command: Command, tmp_path: Path) -> None:
    result = command("up", "--host", "0.0.0.0", "--data", str(tmp_path / "d"))
    assert result.returncode == BAD_USAGE
    assert "--insecure" in result.stderr
    assert not (tmp_path / "d").exists()


def test_who_may_be_open(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.touch()
    HttpFace(keys_file=file).check("0.0.0.0", {})
    HttpFace(insecure=True).check("0.0.0.0", {})
    HttpFace().check("0.0.0.0", {"XPOD_API_KEY": "k"})
    HttpFace().check("127.0.0.1", {})
    with pytest.raises(CliError, match="open to other machines"):
        HttpFace().check("0.0.0.0", {"XPOD_API_KEY": " , "})
    with pytest.raises(CliError, match="belong together"):
        HttpFace(certificate=file).check("127.0.0.1", {})
    with pytest.raises(CliError, match=r"--tls-key: .* is not a file"):
        HttpFace(certificate=file, key=tmp_path / "none").check("127.0.0.1", {})


def test_keys_in_the_data_directory_are_found(tmp_path: Path) -> None:
    assert HttpFace().found(tmp_path).keys_file is None
    (tmp_path / "api-keys.json").touch()
    assert HttpFace().found(tmp_path).keys_file == tmp_path / "api-keys.json"
    assert HttpFace(keys_file=Path("x")).found(tmp_path).keys_file == Path("x")


def test_the_clients_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XPOD_API_KEY", raising=False)
    monkeypatch.delenv("XPOD_CLIENT_KEY", raising=False)
    assert credentials() == {}
    monkeypatch.setenv("XPOD_API_KEY", "first, second")
    assert credentials() == {"Authorization": "Bearer first"}
    monkeypatch.setenv("XPOD_CLIENT_KEY", "mine")
    assert credentials() == {"Authorization": "Bearer mine"}
    assert "XPOD_CLIENT_KEY" not in member_environment(MemberSpec("m", "expert", (), {}), "d")


def test_trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("XPOD_CA", str(tmp_path / "ca.pem"))
    (certificate,) = context().get_ca_certs()
    assert certificate["issuer"]
    assert context().verify_mode == ssl.CERT_REQUIRED
    monkeypatch.setenv("XPOD_CA", str(tmp_path / "none.pem"))
    with pytest.raises(CliError, match="XPOD_CA"):
        context()
