"""The network drill's pure parts: commands, rules, tables, and the order in which things are removed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from xpod.cli.chaos import namespaces
from xpod.cli.chaos.link import Delay
from xpod.cli.chaos.namespaces import Layout, Namespaces, dropped_packets, leftovers, require_root
from xpod.cli.chaos.network import KINDS, Outcome, as_table, chosen, summary
from xpod.cli.chaos.network_faults import FAULTS, Case, rules
from xpod.cli.chaos.network_pod import moved, nats_nodes, urls
from xpod.cli.chaos.oracle import Verdict
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.plan import PodSettings, make_plan

MEMBERS = ("nats-0", "nats-1", "nats-2", "decode-0", "router-0")
LAYOUT = Layout(70_000, MEMBERS)
COUNTS = {"router": 1, "prefill": 0, "decode": 1, "expert": 0, "mempool": 0, "supervisor": 0}


class Machine:
    """A machine that only writes down what it was told, and refuses one command."""

    def __init__(self, refused: str = "", printed: str = "") -> None:
        self.commands: list[str] = []
        self._refused, self._printed = refused, printed

    def __call__(self, argv: Sequence[str]) -> str:
        self.commands.append(" ".join(argv))
        if self._refused and self._refused in self.commands[-1]:
            raise CliError("refused")
        return self._printed


@pytest.fixture(autouse=True)
def guards(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each guard would run; none of them does."""
    told: list[list[str]] = []

    def guard(commands: Sequence[Sequence[str]]) -> subprocess.Popen[bytes]:
        told.append([" ".join(command) for command in commands])
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    monkeypatch.setattr(namespaces, "guard", guard)
    return told


def test_addresses_are_apart_and_names_fit() -> None:
    addresses = [LAYOUT.gateway, *map(LAYOUT.address, MEMBERS)]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith(("198.18.", "198.19.")) for address in addresses)
    assert len(Layout(4_194_304, MEMBERS).outside) <= 15, "the kernel's limit"


def test_each_member_gets_a_way_to_the_bridge() -> None:
    built = [" ".join(command) for command in LAYOUT.building()]
    for member in MEMBERS:
        inner = LAYOUT.namespace(member)
        wanted = [
            f"ip netns add {inner}",
            f"ip -n {LAYOUT.hub} link add {member} type veth peer name eth0 netns {inner}",
            f"ip -n {LAYOUT.hub} link set {member} master bridge up",
            f"ip -n {inner} address add {LAYOUT.address(member)}/24 dev eth0",
        ]
        assert [line for line in built if line in wanted] == wanted, "in this order"


def test_the_network_is_removed_where_it_was_used(guards: list[list[str]]) -> None:
    machine = Machine()
    with Namespaces(LAYOUT, machine):
        begun = len(machine.commands)
    removed = machine.commands[begun:]
    assert removed == [" ".join(command) for command in LAYOUT.removing()]
    assert guards == [removed], "a guard knew it, too"
    made = [line.split()[-1] for line in machine.commands if line.startswith("ip netns add")]
    assert {line.split()[-1] for line in removed if "netns delete" in line} == set(made)


def test_a_network_that_cannot_be_built_is_removed() -> None:
    machine = Machine(refused="type veth")
    with pytest.raises(CliError, match="refused"), Namespaces(LAYOUT, machine):
        pytest.fail("it was built")
    assert machine.commands[-len(LAYOUT.removing()) :] == [" ".join(command) for command in LAYOUT.removing()]


def test_what_is_gone_already_does_not_stop_the_removal() -> None:
    machine = Machine(refused="netns delete")
    with Namespaces(LAYOUT, machine):
        begun = len(machine.commands)
    assert len(machine.commands) - begun == len(LAYOUT.removing())


def test_only_what_dead_drills_left_is_swept() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    mine, dead = Layout(os.getpid(), MEMBERS), Layout(child.pid, MEMBERS)
    listing = f"{mine.hub} (id: 3)\n{dead.namespace('nats-0')} (id: 1)\n{dead.hub}\nsomebody-else (id: 7)\n"
    assert leftovers(listing) == [dead.namespace("nats-0"), dead.hub]
    machine = Machine(printed=listing)
    with Namespaces(mine, machine):
        assert f"ip netns delete {dead.hub}" in machine.commands
        assert "ip netns delete somebody-else" not in machine.commands


def test_a_guard_acts_when_its_owner_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    mark = tmp_path / "mark"
    guard = namespaces.guard([("false",), ("touch", str(mark))])
    assert not mark.exists()
    guard.communicate(timeout=10)
    assert mark.exists(), "and goes on behind what failed"


def test_every_fault_hits_what_it_says() -> None:
    nodes = ", ".join(LAYOUT.address(f"nats-{i}") for i in range(3))
    sent, received = (
        f'iifname "decode-0" ip daddr {{ {nodes} }}',
        f'oifname "decode-0" ip saddr {{ {nodes} }}',
    )
    assert rules(Case("decode", "cut"), LAYOUT, "decode-0") == [sent, received]
    assert rules(Case("decode", "mute"), LAYOUT, "decode-0") == [sent]
    assert rules(Case("decode", "deaf"), LAYOUT, "decode-0") == [received]
    assert rules(Case("decode", "loss"), LAYOUT, "decode-0") == [
        f"{way} numgen random mod 100 < 5" for way in (sent, received)
    ]
    assert rules(Case("nats", "cut"), LAYOUT, "nats-1") == [
        'iifname "nats-1" tcp sport 4222',
        'oifname "nats-1" tcp dport 4222',
    ]
    others = f"{LAYOUT.address('nats-0')}, {LAYOUT.address('nats-2')}"
    assert rules(Case("nats", "routes"), LAYOUT, "nats-1") == [
        f'iifname "nats-1" ip daddr {{ {others} }}',
        f'oifname "nats-1" ip saddr {{ {others} }}',
    ]


def test_rules_are_one_command_and_their_counters_add_up() -> None:
    command = LAYOUT.dropping(["a", "b"])
    assert command[:5] == ("ip", "netns", "exec", LAYOUT.hub, "nft")
    assert command[5].endswith("forward a counter drop; add rule bridge xpod_faults forward b counter drop")
    counters = [
        {"rule": {"expr": [{"match": {}}, {"counter": {"packets": n}}, {"drop": None}]}} for n in (3, 4)
    ]
    listing = json.dumps({"nftables": [{"metainfo": {}}, {"table": {}}, *counters]})
    assert dropped_packets(listing) == 7
    machine = Machine(printed=listing)
    assert Namespaces(LAYOUT, machine).heal() == 7
    assert machine.commands[-1] == " ".join(LAYOUT.healing())


def test_the_clients_of_a_node_are_counted() -> None:
    machine = Machine(printed="0 0 198.18.0.3:4222 198.18.0.9:41000\n0 0 198.18.0.3:4222 198.18.0.9:41002\n")
    assert Namespaces(LAYOUT, machine).connections("nats-1", 4222) == 2
    assert machine.commands[-1].startswith(f"ip netns exec {LAYOUT.namespace('nats-1')} ss ")


def test_members_move_into_their_namespaces(tmp_path: Path) -> None:
    settings = PodSettings(tmp_path, tmp_path / "model", COUNTS, [8000], share_memory=False)
    plan = moved(make_plan(settings, urls(LAYOUT), nats_nodes(LAYOUT, tmp_path)), LAYOUT)
    assert [spec.id for spec in plan.members] == list(MEMBERS)
    assert plan.endpoints == (f"http://{LAYOUT.address('router-0')}:8000",)
    for spec in plan.members:
        assert spec.argv[:4] == ("ip", "netns", "exec", LAYOUT.namespace(spec.id))
    services = [spec.env for spec in plan.members if spec.kind != "nats"]
    assert [env["XPOD_HOST"] for env in services] == [LAYOUT.address("decode-0"), LAYOUT.address("router-0")]
    assert {env["XPOD_FRAMES"] for env in services} == {""}, "nothing passes beside the network"
    preferred = [env["XPOD_NATS_URL"].split(",") for env in services]
    assert preferred[0][0] != preferred[1][0]
    assert sorted(preferred[0]) == sorted(preferred[1]) == sorted(urls(LAYOUT))


def test_the_nodes_of_the_cluster_know_one_another(tmp_path: Path) -> None:
    nats_nodes(LAYOUT, tmp_path)
    written = (tmp_path / "nats" / "nats-1" / "nats-server.conf").read_text()
    assert f'listen: "{LAYOUT.address("nats-1")}:4222"' in written
    assert all(f"nats://{LAYOUT.address(node)}:6222" in written for node in ("nats-0", "nats-2"))


def test_a_slow_link_keeps_packets_in_order_until_they_are_due() -> None:
    delay = Delay(0.02, 0.01, random.Random(1))
    assert delay.wait(0.0) is None
    for number in range(100):
        delay.put(bytes([number]), number / 1000)
    assert delay.take(0.0099) == []
    early = delay.take(0.05)
    assert 20 <= len(early) <= 41
    assert delay.wait(0.05) is not None
    assert early + delay.take(1.0) == [bytes([number]) for number in range(100)]


def test_cases_are_those_that_can_be() -> None:
    cases = chosen(",".join(KINDS), ",".join(FAULTS))
    assert Case("decode", "delay") in cases
    assert Case("nats", "routes") in cases
    assert not {Case("decode", "routes"), Case("nats", "delay")} & set(cases)
    for kinds, faults in (("decoder", "cut"), ("decode", "rain"), ("decode", "routes"), ("", "cut")):
        with pytest.raises(CliError) as raised:
            chosen(kinds, faults)
        assert raised.value.exit_code == BAD_USAGE


def test_nobody_but_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CliError, match="needs root") as raised:
        require_root()
    assert raised.value.exit_code == BAD_USAGE
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: None if tool == "nft" else tool)
    with pytest.raises(CliError, match="needs nft"):
        require_root()


def test_trials_of_a_case_make_one_row() -> None:
    cut, loss = Case("decode", "cut"), Case("nats", "loss")
    rows = summary(
        [
            Outcome(cut, "decode-0", [Verdict(), Verdict(lost=1)], [], 2, 100, 0.5, 1.0),
            Outcome(loss, "nats-0", [Verdict()], ["gone"], 0, 7, 0.1, 0.2),
            Outcome(cut, "decode-1", [Verdict(), Verdict()], [], 1, 50, 1.5, 3.0),
        ]
    )
    assert (rows[0]["trials"], rows[0]["streams"], rows[0]["wrong"], rows[0]["packets"]) == (2, 4, 1, 150)
    assert (rows[0]["gap_p50"], rows[0]["gap_worst"], rows[0]["whole_worst"]) == (1.0, 1.5, 3.0)
    assert (rows[1]["wrong"], rows[1]["errors"]) == (1, ["gone"])
    assert as_table(rows).row_count == 2
