"""The pages for users, run from top to bottom as they stand, but for ports, places and names of machines.

What needs Docker, root or somebody else's program is left out: `test_commands.py` checks how it is written.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import trustme

from docs.pages import ROOT, script
from docs.shell import LONG_SECONDS, SECONDS, Shell
from xpod_model.demo import demo_path
from xpod_runtime.broker import free_ports

OTHERS = re.compile(
    r"^(?:[A-Z_]+=\S+ )*(?:docker|make|pip|python|guidellm|llama-server)\b(?:.*\\\n)*.*\n?", re.MULTILINE
)
SMALL = {"XPOD_PREFILL": "1", "XPOD_EXPERTS": "2", "XPOD_SUPERVISORS": "1", "XPOD_ROUTERS": "1"}
ANSWER = re.compile(r"cmpl-s[0-9a-f]{24}")


def page(name: str) -> str:
    """What a page has for shells, but for other people's programs."""
    return OTHERS.sub("", script(ROOT / name)).replace("DIR", str(demo_path()))


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """What each shows, by what there is here."""
    for shown, here in pairs:
        assert shown in text, shown
        text = text.replace(shown, here)
    return text


@pytest.mark.pages
@pytest.mark.timeout(LONG_SECONDS + 60)
def test_readme(shell: Shell) -> None:
    text = shell.on_free_ports(page("README.md"))
    assert "stopped 14 processes" in shell.run(text, LONG_SECONDS)


@pytest.mark.timeout(SECONDS + 60)
def test_quick_start(shell: Shell) -> None:
    text = shell.on_free_ports(page("docs/quick-start.md"))
    assert "stopped 14 processes" in shell.run(text)


@pytest.mark.timeout(SECONDS + 60)
def test_checkpoints(shell: Shell) -> None:
    text = shell.on_free_ports(page("docs/checkpoints.md"))
    assert "stopped" in shell.run(text)


@pytest.mark.timeout(SECONDS + 60)
def test_operating_and_metrics(shell: Shell) -> None:
    """Their commands are for a pod that runs."""
    before, _, after = page("docs/operating.md").partition("xpod status")
    shell.environ |= SMALL
    text = f"{before}\nxpod up --detach\n{page('docs/metrics.md')}\nxpod status{after}"
    said = shell.run(shell.on_free_ports(text))
    assert "xpod_member{" in said
    assert "stopped" in said


@pytest.mark.timeout(SECONDS + 60)
def test_tracing(shell: Shell) -> None:
    """The answer that it traces is the first one's; nobody collects."""
    shell.environ |= SMALL
    traced, _, rest = page("docs/tracing.md").partition("\n")
    rest = replaced(ANSWER.sub("$id", rest), ("XPOD_TRACE=1 xpod up", "XPOD_TRACE=1 xpod up --detach"))
    text = f"""xpod up --detach
{traced}
id=$(xpod trace | grep -o 'cmpl-s[0-9a-f]*' | head -1)
{rest.partition("OTEL_")[0]}
xpod down
OTEL_{rest.partition("OTEL_")[2]}
xpod run 'import os' --max-tokens 4
xpod down"""
    said = shell.run(shell.on_free_ports(text))
    assert said.count("expert x") >= 2, "waterfalls"
    assert said.count("stopped") == 2


@pytest.mark.timeout(SECONDS + 60)
def test_security(shell: Shell) -> None:
    """The key that is removed was the only one; whoever listens for others needs another."""
    shell.environ |= SMALL
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(shell.here / "ca.pem")
    issued.private_key_pem.write_to_path(shell.here / "server.key")
    issued.cert_chain_pems[0].write_to_path(shell.here / "server.pem")
    text = replaced(
        page("docs/security.md"),
        (
            "xpod up --tls-cert",
            "export XPOD_CLIENT_KEY=$(xpod key add ben)\nXPOD_CA=ca.pem xpod up --detach --tls-cert",
        ),
        ("pod.example", "localhost"),
    )
    said = shell.run(shell.on_free_ports(f"{text}\nXPOD_CA=ca.pem xpod down"))
    assert "https://localhost:" in said
    assert "stopped" in said


@pytest.mark.pages
@pytest.mark.timeout(LONG_SECONDS + 60)
def test_measuring(shell: Shell) -> None:
    """The other server is the pod, too."""
    up, other = 'xpod up --detach --model "$(xpod bench make-model)"', "http://127.0.0.1:8080"
    text = replaced(
        page("docs/bench.md"),
        (up, f"{up} --experts 1 --prefill 1"),
        (f"--url {other} --model other", "--url http://127.0.0.1:8000"),
        (f"llama-server={other}", "llama-server=http://127.0.0.1:8000"),
        ("xpod up --detach --caching", "xpod down; xpod up --detach --caching"),
        ("xpod bench table", "xpod bench table --help"),
    )
    said = shell.run(shell.on_free_ports(f"{text}\nxpod down"), LONG_SECONDS)
    assert said.count("stopped") == 2


@pytest.mark.pages
@pytest.mark.timeout(LONG_SECONDS + 60)
def test_faults(shell: Shell) -> None:
    """A drill on the pod that runs in .xpod, and others on pods of their own; faults of the network need root."""
    lines = page("docs/failures.md").splitlines(keepends=True)
    text = "".join(line for line in lines if "--compose" not in line and "xpod chaos network" not in line)
    assert "stopped" in shell.run(f"xpod up --detach --port 0\n{text}\nxpod down", LONG_SECONDS)


@pytest.mark.timeout(SECONDS + 60)
def test_several_machines(shell: Shell, tmp_path: Path) -> None:
    """All of them are this one; NATS' three nodes are one."""
    client, monitor, port = free_ports(3)
    text = page("docs/several-machines.md")
    for shown, here in (
        ("--node a --node b --node c", "--node localhost"),
        ("/var/lib/xpod/nats", str(tmp_path / "nats")),
        ("NATS=nats://a:4222,nats://b:4222,nats://c:4222", f"NATS=nats://localhost:{client}"),
        ("/models/big", str(demo_path())),
        ("--host 0.0.0.0 --public-host a", f"--port {port} --data a"),
        ("--host 0.0.0.0", "--data b"),
        (
            "nats-server --config keys/nats/a.conf",
            f"sed -i 's/0.0.0.0:4222/127.0.0.1:{client}/; s/http_port: 8222/http_port: {monitor}/' "
            "keys/nats/localhost.conf\nnats-server --config keys/nats/localhost.conf & nats=$!",
        ),
    ):
        assert shown in text, shown
        text = text.replace(shown, here, 1 if shown in {"--host 0.0.0.0"} else -1)
    asked = f"xpod run 'import os' --max-tokens 8 --url http://127.0.0.1:{port}"
    until = f"for try in $(seq 30); do xpod run x --max-tokens 1 --url http://127.0.0.1:{port} && break; done"
    text += f"\n{until}\n{asked}\nxpod down --data b\nxpod down --data a\nkill $nats\nwait"
    said = shell.run(text)
    assert "3 members of big run here" not in said
    assert f"big serves at http://127.0.0.1:{port}" in said
    assert "4 members of big run here" in said
    keys = (shell.here / "keys").rglob("*.nk")
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
