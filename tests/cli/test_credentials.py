"""Keys and certificates that are made once."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xpod.cli.credentials.authority import (
    SERVER_DAYS,
    authority_certificate,
    new_key,
    server_certificate,
    still_serves,
)
from xpod.cli.credentials.files import kept, write
from xpod.cli.credentials.keyring import Keyring, found
from xpod.cli.errors import CliError
from xpod.cli.main import run_command
from xpod.cli.starting import PodRequest, _keyring_of
from xpod_proto import subjects
from xpod_runtime.broker import nats_server_path


def texts(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


# -- files ----------------------------------------------------------------------------------------------


def test_a_secret_is_made_once_and_never_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert kept(tmp_path / "secret", lambda: "first") == "first"
        assert kept(tmp_path / "secret", lambda: "second") == "first"
        (tmp_path / "wide").write_text("readable by all")
        write(tmp_path / "wide", "by one")
    finally:
        os.umask(old)
    for name in ("secret", "wide"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.new"))


# -- certificates ---------------------------------------------------------------------------------------


def test_a_certificate_serves_its_hosts_until_shortly_before_its_end() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ca_key, key = new_key(), new_key()
    authority = authority_certificate(ca_key, "one", now)
    certificate = server_certificate(key, authority, ca_key, ["nats-0", "10.0.0.1", "::1"], now)
    assert still_serves(certificate, ["nats-0", "::1"], now)
    assert not still_serves(certificate, ["nats-0", "nats-1"], now)
    assert not still_serves(certificate, ["10.0.0.2"], now)
    assert still_serves(certificate, ["nats-0"], now + timedelta(days=SERVER_DAYS - 40))
    assert not still_serves(certificate, ["nats-0"], now + timedelta(days=SERVER_DAYS - 20))


def test_strict_clients_take_the_certificates(tmp_path: Path) -> None:
    """As OpenSSL checks them when nothing is let pass (RFC 5280)."""
    ca_key, key = new_key(), new_key()
    authority = authority_certificate(ca_key, "one")
    write(tmp_path / "ca.pem", authority)
    write(tmp_path / "server.pem", server_certificate(key, authority, ca_key, ["localhost"]))
    write(tmp_path / "server.key", key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ours.version() == "TLSv1.3"


# -- the keyring ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [None, ["nats-0"]])
def test_what_was_made_stays(tmp_path: Path, hosts: list[str] | None) -> None:
    keyring = Keyring(tmp_path / "keys", "one")
    first = keyring.access(hosts)
    before = texts(keyring.root)
    assert keyring.access(hosts) == first
    assert texts(keyring.root) == before
    assert len(first.users) == len(subjects.KINDS)
    assert first.system not in first.users
    for path in (keyring.root, *keyring.root.rglob("*")):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    assert found(keyring.root) == keyring


def test_another_host_gets_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, "one")
    keyring.access(["nats-0"])
    before = texts(tmp_path)
    keyring.access(["nats-0", "nats-1"])
    changed = {path for path, text in texts(tmp_path).items() if before.get(path) != text}
    assert changed == {tmp_path / "nats" / "server.pem"}


def test_servers_hold_no_member_s_secret(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, "one")
    keyring.access(["nats-0"])
    seeds = {(keyring.of(kind) / "nats.nk").read_text().strip() for kind in (*subjects.KINDS, "system")}
    assert len(seeds) == len(subjects.KINDS) + 1
    for text in texts(keyring.nats).values():
        assert not any(seed in text for seed in seeds)


def test_none_are_found_where_none_were_made(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="xpod credentials makes them"):
        found(tmp_path)


# -- the commands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [[], ["--tls"]])
@pytest.mark.parametrize("nodes", [["nats-0"], ["a", "b.example", "10.0.0.3"]])
def test_nats_servers_take_the_configurations(
    tmp_path: Path, nodes: list[str], tls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for node in nodes for word in ("--node", node)]
    assert run_command(["credentials", str(tmp_path), *arguments, *tls, "--store", str(tmp_path / "d")]) == 0
    assert f"and {len(nodes)} NATS nodes" in capsys.readouterr().out
    for node in nodes:
        config = tmp_path / "nats" / f"{node}.conf"
        checked = subprocess.run(
            [nats_server_path(), "--config", config, "-t"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        text = config.read_text()
        assert text.count("cert_file") == (0 if not tls else 1 if len(nodes) == 1 else 2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--node", "a", "--pod", "a.b"], "--pod: 'a.b' is not a name"),
        (["--node", "a/../b"], "--node: 'a/../b' is not a host"),
        (["--node", "a", "--node", "a"], "--node: a is named twice"),
        ([], "Missing option '--node'"),
    ],
)
def test_wrong_things_are_named(
    tmp_path: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["credentials", str(tmp_path / "keys"), *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_command(["credentials", str(tmp_path / "file" / "keys"), "--node", "a"]) == 3
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--secure", "--nats-url", "nats://a"], "--credentials"),
        (["--credentials", "keys"], "--secure"),
    ],
)
def test_secure_is_for_own_nodes_and_credentials_for_others(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["up", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_the_pod_is_the_one_that_credentials_are_for(tmp_path: Path) -> None:
    Keyring(tmp_path, "one").access()
    assert _keyring_of(PodRequest(credentials=tmp_path), tmp_path) == Keyring(tmp_path, "one")
    with pytest.raises(CliError, match="credentials of one, not of two"):
        _keyring_of(PodRequest(credentials=tmp_path, pod="two"), tmp_path)
    assert _keyring_of(PodRequest(), tmp_path) is None
