"""HTTPS, with an authority of the tests' own: renewed certificates are taken, bad ones are not."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from structlog.testing import capture_logs

from hostile.served import served
from router.api_fakes import COMPLETIONS, FakeEngine, says
from xpod.router.connections import Connections
from xpod.router.http_server import refuse_open
from xpod.router.tls import Certificate, certificate_of
from xpod_runtime.errors import ConfigError

AUTHORITY = trustme.CA()


def issue(directory: Path, name: str = "127.0.0.1", authority: trustme.CA = AUTHORITY) -> tuple[Path, Path]:
    """The files of a new certificate and its key."""
    issued = authority.issue_cert(name)
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def serial(port: int) -> int:
    """Of the certificate that a new connection is shown."""
    import asyncio

    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
    shown = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return int(shown, 16)


async def test_an_answer_over_https(tmp_path: Path) -> None:
    certificate = Certificate(*issue(tmp_path))
    async with (
        served(FakeEngine(*says("ok")), Connections(10), certificate.context) as port,
        httpx.AsyncClient(verify=trusting(), trust_env=False, base_url=f"https://127.0.0.1:{port}") as http,
    ):
        answer = await http.post(COMPLETIONS, json={"prompt": "x", "stream": True})
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_no_trust_no_answer(tmp_path: Path) -> None:
    certificate = Certificate(*issue(tmp_path))
    engine = FakeEngine(*says("ok"))
    async with served(engine, Connections(10), certificate.context) as port:
        for url, trust in (
            (f"https://127.0.0.1:{port}", trusting(trustme.CA())),
            (f"https://localhost:{port}", trusting()),
            (f"http://127.0.0.1:{port}", trusting()),
        ):
            async with httpx.AsyncClient(verify=trust, trust_env=False, base_url=url) as http:
                with pytest.raises(httpx.TransportError):
                    await http.post(COMPLETIONS, json={"prompt": "x"})
    assert not engine.opened


async def test_a_renewed_certificate_is_taken(tmp_path: Path) -> None:
    certificate = Certificate(*issue(tmp_path))
    async with served(FakeEngine(), Connections(10), certificate.context) as port:
        first = await serial(port)
        certificate.look()
        assert await serial(port) == first
        issue(tmp_path)
        with capture_logs():
            certificate.look()
        second = await serial(port)
        assert second != first
        (tmp_path / "cert.pem").write_text("half")
        with capture_logs() as logs:
            certificate.look()
            certificate.look()
        assert [each["log_level"] for each in logs] == ["warning"]
        assert await serial(port) == second


@pytest.mark.parametrize(
    "damage", ["none", "no certificate", "no key", "empty", "another's", "with a password"]
)
def test_a_bad_pair_is_told(tmp_path: Path, damage: str) -> None:
    certificate, key = issue(tmp_path)
    match damage:
        case "none":
            certificate.unlink()
        case "no certificate":
            certificate.write_text("x")
        case "no key":
            key.write_text("x")
        case "empty":
            key.write_text("")
        case "another's":
            key.write_bytes(AUTHORITY.issue_cert("x").private_key_pem.bytes())
        case "with a password":
            from cryptography.hazmat.primitives import serialization as form

            loaded = form.load_pem_private_key(key.read_bytes(), None)
            key.write_bytes(
                loaded.private_bytes(
                    form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"pw")
                )
            )
    with pytest.raises(ConfigError, match=r"\.pem"):
        Certificate(certificate, key)


def test_half_a_pair_is_none() -> None:
    assert certificate_of("", "") is None
    with pytest.raises(ConfigError, match="belong together"):
        certificate_of("a.pem", "")


def test_a_router_is_not_open_by_accident() -> None:
    for host, closed, insecure in (
        ("127.0.0.1", False, False),
        ("0.0.0.0", True, False),
        ("::", False, True),
    ):
        refuse_open(host, closed, insecure)
    with pytest.raises(ConfigError, match="--insecure"):
        refuse_open("0.0.0.0", False, False)
