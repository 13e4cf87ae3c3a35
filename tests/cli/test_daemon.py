"""The launcher as a process, with stand-ins for members, and the commands that find it."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from cli.cli_fakes import fake_router, member, plan_for, shell
from cli.conftest import Command
from xpod.cli.down import stop_pod
from xpod.cli.errors import CliError
from xpod.cli.handle import Handle
from xpod.cli.plan import LaunchPlan
from xpod.cli.process import is_alive, launched_from, ref_of, send, wait_gone
from xpod.cli.shared_memory import provide, shared_directory
from xpod.cli.state import PodState, locked, read_state

pytestmark = pytest.mark.usefixtures("environment")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    port = free_port()
    members = (member("nats-0"), member("decode-0"), fake_router(port, "router-0", "decode-0"))
    return plan_for(tmp_path, *members, endpoints=[f"http://127.0.0.1:{port}"])


def start(plan: LaunchPlan, *, attached: bool) -> tuple[Handle, PodState]:
    with locked(Path(plan.data)) as lock:
        handle = Handle(plan, attached=attached, lock=lock)
    for _ in handle.wait_ready():
        pass
    state = read_state(Path(plan.data))
    assert state is not None
    return handle, state


def test_a_detached_pod_goes_on_and_down_stops_it(plan: LaunchPlan, command: Command) -> None:
    data = Path(plan.data)
    handle, state = start(plan, attached=False)
    handle.release()
    assert len(state.living()) == 3
    with pytest.raises(CliError, match="a pod runs in"), locked(data):
        pass
    second = command("up", "--data", str(data), "--detach")
    assert (second.returncode, second.stderr.count("\n")) == (3, 1)

    down = command("down", "--data", str(data))
    assert (down.returncode, down.stdout) == (0, "stopped 3 processes\n")
    assert wait_gone([state.launcher, *(ref_of(ref.pid) for ref in launched_from(data))], 5.0) == []
    assert state.living() == []
    assert command("down", "--data", str(data)).stdout == f"no pod runs in {data}\n"


def test_a_killed_launcher_leaves_nothing_that_down_does_not_find(plan: LaunchPlan, command: Command) -> None:
    data = Path(plan.data)
    handle, state = start(plan, attached=False)
    handle.release()
    send(state.launcher, signal.SIGKILL)
    assert wait_gone([state.launcher], 5.0) == []
    assert len(state.living()) == 3, "the pod goes on without its launcher"
    refused = command("up", "--data", str(data), "--detach")
    assert refused.returncode == 3
    assert "xpod down stops them" in refused.stderr
    (data / "pod.json").write_text((data / "pod.json").read_text().replace(state.members[1].id, "unknown"))
    provide(shared_directory(plan.pod))
    assert stop_pod(data) == 3
    assert state.living() == []
    assert not shared_directory(plan.pod).exists()


def test_an_attached_pod_ends_with_whoever_holds_it(plan: LaunchPlan) -> None:
    handle, state = start(plan, attached=True)
    handle._close_pipes()  # as the kernel does for a killed `xpod up`
    assert wait_gone([state.launcher], 10.0) == []
    assert state.living() == []
    assert read_state(Path(plan.data)) is None
    handle.stop()


def test_a_pod_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = shell("decode-0", "echo 'xpod decode: bad value' >&2; exit 2")
    plan = plan_for(tmp_path, member("nats-0"), broken, endpoints=[f"http://127.0.0.1:{free_port()}"])
    with locked(tmp_path) as lock, Handle(plan, attached=False, lock=lock) as handle:
        with pytest.raises(
            CliError, match=r"decode-0: its configuration is bad \(exit status 2\): xpod decode: bad"
        ):
            for _ in handle.wait_ready():
                pass
        assert launched_from(tmp_path) == []
    assert read_state(tmp_path) is None


def test_status_and_kill(plan: LaunchPlan, command: Command) -> None:
    handle, state = start(plan, attached=False)
    with handle:
        report = json.loads(command("status", "--json", "--data", plan.data).stdout)
        assert report["ready"]
        assert {each["id"]: each["state"] for each in report["members"]} == {
            "nats-0": "up",
            "decode-0": "up",
            "router-0": "up",
        }
        assert all(is_alive(ref_of(each["pid"])) for each in report["members"])

        assert command("kill", "nats-0", "--signal", "STOP", "--data", plan.data).returncode == 0
        report = json.loads(command("status", "--json", "--data", plan.data).stdout)
        assert {each["id"]: each["state"] for each in report["members"]}["nats-0"] == "suspect"

        unknown = command("kill", "decode-7", "--data", plan.data)
        assert unknown.returncode == 2
        assert unknown.stderr == "xpod: the pod has no member decode-7 (it has nats-0, decode-0, router-0)\n"

        victim = state.members[1].process
        assert victim is not None
        assert command("kill", "decode-0", "--data", plan.data).returncode == 0
        assert wait_gone([victim], 5.0) == []
        table = command("status", "--data", plan.data)
        assert table.returncode == 0
        assert "decode-0" in table.stdout


def test_status_without_a_router_shows_what_it_knows(tmp_path: Path, command: Command) -> None:
    plan = plan_for(tmp_path, member("decode-0"), endpoints=[])
    handle, _ = start(plan, attached=False)
    with handle:
        found = command("status", "--json", "--data", str(tmp_path))
        assert found.returncode == 3
        assert found.stderr.startswith("xpod: no router answers")
        assert [each["state"] for each in json.loads(found.stdout)["members"]] == ["suspect"]


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, member("decode-0"))
    handle, state = start(plan, attached=False)
    with handle:
        path = tmp_path / "pod.json"
        record = json.loads(path.read_text())
        record["launcher"] = {"pid": os.getpid(), "birth": "ticks:1"}
        path.write_text(json.dumps(record))
        assert stop_pod(tmp_path) == 1, "the member is stopped, and this very process is not"
    assert state.living() == []
