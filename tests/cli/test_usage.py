"""What a user gets who asks for something that cannot be: one line, and the exit code that says what kind it is."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Command, Run
from xpod.cli.client import PodClient

COMMANDS = ("up", "down", "run", "chat", "status", "kill")
BAD_USAGE = [
    (["up", "--modle", "x"], r"No such option: --modle .*--model"),
    (["up", "--experts", "0"], r"'--experts'"),
    (["up", "--experts", "many"], r"'--experts'"),
    (["up", "--dtype", "fp8"], r"'--dtype'.*'fp8' is not one of 'auto', 'bf16', 'fp32'"),
    (["up", "--port", "70000"], r"'--port'"),
    (["up", "--port", "65535", "--routers", "2"], r"--port: 65535 leaves no room for 2 routers"),
    (["up", "--nats", "1", "--nats-url", "nats://h"], r"--nats and --nats-url exclude each other"),
    (["up", "--nats-url", "http://h:1"], r"'http://h:1' is not of the form nats://host:port"),
    (["kill", "decode-0", "--signal", "HUP"], r"'--signal'.*'HUP' is not one of"),
    (["kill"], r"Missing argument 'MEMBER'"),
    (["run"], r"Missing argument 'PROMPT'"),
    (["run", ""], r"the prompt is empty"),
    (["run", "x", "--temperature", "-1"], r"'--temperature'"),
    (["serve"], r"No such command 'serve'"),
]
UNREACHABLE = [
    (["up", "--model", "/nowhere"], r"--model: model directory /nowhere does not exist"),
    (["up", "--nats-url", "nats://127.0.0.1:1"], r"no NATS server answers at nats://127.0.0.1:1 \(waited"),
    (["up", "--host", "no.such.host.invalid", "--insecure"], r"--host: no.such.host.invalid"),
    (["status"], r"no pod runs in .*\(xpod up starts one\)"),
    (["status", "--url", "http://127.0.0.1:1"], r"no router answers"),
    (["kill", "decode-0"], r"no pod runs in"),
]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("arguments", "reason"), BAD_USAGE)
def test_bad_usage_is_one_specific_line(command: Command, arguments: list[str], reason: str) -> None:
    result = command(*arguments)
    assert result.returncode == 2
    assert re.fullmatch(f"xpod: .*{reason}.*\n", result.stderr)
    assert not list(Path().iterdir()), "nothing is left behind"


@pytest.mark.parametrize(("arguments", "reason"), UNREACHABLE)
def test_what_cannot_be_reached_is_one_specific_line(
    command: Command, arguments: list[str], reason: str
) -> None:
    result = command(*arguments)
    assert result.returncode == 3
    assert re.fullmatch(f"xpod: .*{reason}.*\n", result.stderr)
    assert result.stdout == ""


def test_a_port_that_is_taken(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first = port - 1 if port > 1024 else port
        result = command("up", "--port", str(first), "--routers", "2")
    assert result.returncode == 3
    assert re.fullmatch(rf"xpod: --port: port ({first}|{port}) on 127.0.0.1 is taken\n", result.stderr)


def test_a_bad_value_in_a_variable_names_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPOD_EXPERTS", "many")
    result = command("up")
    assert result.returncode == 2
    assert "XPOD_EXPERTS" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_reads_its_variable(command: Command, name: str) -> None:
    text = command(name, "--help").stdout
    options = set(re.findall(r"(?<=│ )--[a-z-]+", text)) - {"--help"}
    variables = {"XPOD_" + option[2:].replace("-", "_").upper() for option in options}
    assert variables <= set(re.findall(r"XPOD_[A-Z_]+", text))


def test_help_and_version(command: Command) -> None:
    text = command("--help").stdout
    assert all(name in text for name in COMMANDS)
    assert command("--version").stdout.startswith("xpod")
    assert command().returncode == 2


def test_the_script_as_a_process(xpod: Run) -> None:
    """The same by way of a real process: exit code, streams, and that torch is not what it waits for."""
    result = xpod("status", "--json")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "xpod: no pod runs in .xpod (xpod up starts one)\n"


def test_ctrl_c_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PodClient, "stream", interrupted)
    assert command("run", "x", "--url", "http://h").returncode == 130


def test_no_command_loads_torch(environment: dict[str, str]) -> None:
    script = (
        "import sys, xpod_model.checkpoint, xpod_model.demo\n"
        "from xpod.cli import main, daemon, healthcheck, nats_nodes, preflight, view\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
