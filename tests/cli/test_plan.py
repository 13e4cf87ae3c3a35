"""Settings in, commands out."""

import sys
from dataclasses import replace
from pathlib import Path

from xpod.cli.plan import PodSettings, environment, make_plan, service

COUNTS = {"router": 2, "prefill": 1, "decode": 2, "expert": 3, "mempool": 1, "supervisor": 1}
SETTINGS = PodSettings(
    data=Path("/data"), model=Path("/model"), counts=COUNTS, ports=[8000, 8001], dtype="fp32"
)


def test_members_are_scaled_and_numbered_from_zero() -> None:
    plan = make_plan(SETTINGS, ["nats://h:1"], [])
    ids = [spec.id for spec in plan.members]
    assert sorted(ids) == sorted(
        f"{kind}-{index}" for kind, count in COUNTS.items() for index in range(count)
    )


def test_a_member_is_told_everything_by_name() -> None:
    spec = service(SETTINGS, "decode", 1, ["nats://h:1", "nats://h:2"])
    assert spec.argv == (sys.executable, "-m", "xpod.decode", "--id", "decode-1")
    assert spec.env == {
        "XPOD_POD": SETTINGS.name,
        "XPOD_ID": "decode-1",
        "XPOD_NATS_URL": "nats://h:1,nats://h:2",
        "XPOD_MODEL": "/model",
        "XPOD_DTYPE": "fp32",
        "XPOD_DEVICE": "cpu",
        "XPOD_HOST": "127.0.0.1",
        "XPOD_DATA": "/data/members/decode-1",
        "XPOD_FRAMES": "",
        "XPOD_CREDENTIALS": "",
    }


def test_members_that_share_memory_are_told_where() -> None:
    plan = make_plan(replace(SETTINGS, share_memory=True), ["nats://h:1"], [])
    assert plan.frames == f"/dev/shm/xpod-{SETTINGS.name}"
    assert {spec.env["XPOD_FRAMES"] for spec in plan.members} == {plan.frames}
    assert make_plan(SETTINGS, ["nats://h:1"], []).frames == ""


def test_router_i_listens_on_its_own_port() -> None:
    plan = make_plan(SETTINGS, ["nats://h:1"], [])
    ports = {spec.id: spec.env["XPOD_PORT"] for spec in plan.members if spec.kind == "router"}
    assert ports == {"router-0": "8000", "router-1": "8001"}
    assert plan.endpoints == ("http://127.0.0.1:8000", "http://127.0.0.1:8001")
    assert all("XPOD_PORT" not in spec.env for spec in plan.members if spec.kind != "router")


def test_endpoints_of_a_pod_that_listens_everywhere_can_be_reached() -> None:
    assert make_plan(replace(SETTINGS, host="0.0.0.0"), [], []).endpoints[0] == "http://127.0.0.1:8000"


def test_pods_in_different_directories_have_different_names() -> None:
    other = replace(SETTINGS, data=Path("/other"))
    assert SETTINGS.name != other.name
    assert replace(SETTINGS, pod="mine").name == "mine"


def test_environment() -> None:
    outer = {"HOME": "/root", "XPOD_SEED": "1", "XPOD_PORT": "1", "XPOD_DATA": "x", "XPOD_LOG_LEVEL": "debug"}
    found = environment(service(SETTINGS, "expert", 0, []), "/data", outer)
    assert found["HOME"] == "/root"
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["XPOD_LOG_LEVEL"] == "debug", "settings of services pass through the launcher"
    assert found["XPOD_DATA"] == "/data/members/expert-0", "the member's own win"
    assert found["XPOD_LAUNCH"] == "/data"
    assert "XPOD_SEED" not in found, "options of the command line stay there"
    assert "XPOD_PORT" not in found


def test_a_part_of_a_pod_bears_its_machine_s_name() -> None:
    counts = dict.fromkeys(COUNTS, 0) | {"expert": 2, "router": 1}
    part = replace(SETTINGS, machine="b", counts=counts, ports=[8000], pod="big", share_memory=True)
    plan = make_plan(part, ["nats://h:1"], [])
    assert [spec.id for spec in plan.members] == ["expert-b_0", "expert-b_1", "router-b_0"]
    assert plan.part
    assert plan.frames == "/dev/shm/xpod-big-b"
    assert not make_plan(SETTINGS, [], []).part


def test_routers_are_called_what_clients_elsewhere_call_the_machine() -> None:
    plan = make_plan(replace(SETTINGS, host="0.0.0.0", public_host="a.example"), [], [])
    assert plan.endpoints == ("http://a.example:8000", "http://a.example:8001")
    told = [spec.env["XPOD_ADVERTISE"] for spec in plan.members if spec.kind == "router"]
    assert told == list(plan.endpoints)
