"""A pod of real processes, driven as a person would: `xpod up`, `run`, `kill`, `down`, and OpenAI's client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from transformers import AutoModelForCausalLM, AutoTokenizer

from xpod_model.demo import demo_path
from xpod_runtime.trace_context import HEADER, TraceContext, new_span, new_trace

PROMPT = "def fibonacci(n):"
EXAMPLE = Path(__file__).parents[2] / "examples" / "resume.py"


def xpod(*arguments: str, data: Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
    return subprocess.run(
        [sys.executable, "-m", "xpod.cli", *arguments],
        env={**environ, "XPOD_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def status(data: Path) -> dict[str, Any]:
    reply = xpod("status", "--json", data=data)
    assert reply.returncode == 0, reply.stderr
    state: dict[str, Any] = json.loads(reply.stdout)
    return state


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running pod of the demo model in fp32, with two of every worker."""
    directory = tmp_path_factory.mktemp("pod") / "data"
    sizes = ["--routers", "2", "--prefill", "1", "--decode", "2", "--experts", "2", "--supervisors", "1"]
    up = xpod("up", "--detach", "--port", "0", "--dtype", "fp32", *sizes, data=directory)
    assert up.returncode == 0, up.stderr
    yield directory
    members = [psutil.Process(member["pid"]) for member in status(directory)["members"]]
    down = xpod("down", data=directory)
    assert down.returncode == 0, down.stderr
    assert not [process for process in members if process.is_running()], "down left a process behind"


def test_status_shows_every_member(data: Path) -> None:
    state = status(data)
    kinds = sorted(member["kind"] for member in state["members"] if member["state"] == "up")
    assert kinds == sorted(
        ["nats", *["router"] * 2, "prefill", *["decode"] * 2, *["expert"] * 2, *["mempool"] * 2, "supervisor"]
    )
    assert state["ready"] is True
    assert len(state["endpoints"]) == 2
    holders = [who for layer in state["placement"]["experts"].values() for who in layer.values()]
    assert all(holders)


def test_run_equals_transformers_on_the_demo_model(data: Path) -> None:
    asked = xpod("run", PROMPT, "--max-tokens", "64", "--temperature", "0", "--json", data=data)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    oracle = AutoModelForCausalLM.from_pretrained(demo_path(), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(demo_path())
    prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
    assert answer["usage"]["prompt_tokens"] == prompt.shape[1]
    tokens = answer["tokens"]
    with torch.inference_mode():
        logits = oracle(torch.cat([prompt, torch.tensor([tokens])], 1)).logits[0, prompt.shape[1] - 1 : -1]
    assert tokens == logits.argmax(-1).tolist()
    expected = torch.log_softmax(logits.double(), -1)[torch.arange(len(tokens)), torch.tensor(tokens)]
    spread = float(logits.max() - logits.min())
    assert float((expected - torch.tensor(answer["logprobs"]).double()).abs().max()) <= 1e-4 * spread
    assert answer["text"] == tokenizer.decode(tokens, skip_special_tokens=True)


def test_the_same_seed_gives_the_same_bits(data: Path) -> None:
    arguments = ["run", "import os", "--max-tokens", "24", "--temperature", "0.9", "--seed", "7", "--json"]
    answers = [json.loads(xpod(*arguments, data=data).stdout) for _ in range(2)]
    assert answers[0]["tokens"] == answers[1]["tokens"]
    bits = [[repr(value) for value in answer["logprobs"]] for answer in answers]
    assert bits[0] == bits[1]
    other = json.loads(xpod(*arguments[:-2], "8", "--json", data=data).stdout)
    assert other["tokens"] != answers[0]["tokens"]


def test_every_member_has_metrics_and_routers_tell_where(data: Path) -> None:
    reply = xpod("run", "import os", "--max-tokens", "8", "--temperature", "0", "--json", data=data)
    assert reply.returncode == 0, reply.stderr
    state = status(data)
    with urllib.request.urlopen(f"{state['endpoints'][0]}/metrics/targets", timeout=10) as answer:
        targets = json.load(answer)
    told = {target["labels"]["member"]: target["targets"][0] for target in targets}
    assert set(told) == {member["id"] for member in state["members"] if member["kind"] != "nats"}
    sums: dict[str, float] = defaultdict(float)
    for member, address in told.items():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        found = [sample for family in families for sample in family.samples]
        [who] = [sample.labels for sample in found if sample.name == "xpod_member"]
        assert (who["member"], who["kind"]) == (member, member.rpartition("-")[0])
        for sample in found:
            sums[f"{who['kind']} {sample.name}"] += sample.value
    asked = {
        "decode xpod_expert_call_seconds_count", "prefill xpod_expert_call_seconds_count",
        "decode xpod_step_seconds_count", "expert xpod_expert_pairs_total", "expert xpod_experts_held",
        "mempool xpod_mempool_budget_bytes", "supervisor xpod_leader", "router vllm:generation_tokens_total",
        "router process_resident_memory_bytes",
    }  # fmt: skip
    assert [name for name in asked if not sums[name]] == []


async def test_openai_client_streams_from_both_routers(data: Path) -> None:
    for url in status(data)["endpoints"]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            model = (await client.models.list()).data[0].id
            stream = await client.completions.create(
                model=model, prompt=PROMPT, max_tokens=16, temperature=0, stream=True
            )
            text = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])
            assert text.strip()
            chat = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "What does os.path.join do?"}],
                max_tokens=16,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in chat]
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip()
            assert chunks[-1].usage is not None
            assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")


def test_a_second_pod_in_the_same_place_is_refused(data: Path) -> None:
    second = xpod("up", "--detach", "--port", "0", data=data)
    assert second.returncode == 3
    assert len(second.stderr.strip().splitlines()) == 1
    assert status(data)["ready"] is True


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-tokens", "100000"], "context"),
        (["--max-tokens", "0"], "max"),
    ],
)
def test_a_refused_request_says_why(data: Path, arguments: list[str], told: str) -> None:
    refused = xpod("run", PROMPT, *arguments, data=data)
    assert refused.returncode in (2, 4)
    assert told in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_killed_decode_worker_comes_back(data: Path) -> None:
    before = {member["id"]: member["pid"] for member in status(data)["members"]}
    killed = xpod("kill", "decode-0", data=data)
    assert killed.returncode == 0, killed.stderr
    again = xpod("run", PROMPT, "--max-tokens", "64", "--temperature", "0", "--json", data=data)
    assert again.returncode == 0, again.stderr
    assert len(json.loads(again.stdout)["tokens"]) == 64
    assert not psutil.pid_exists(before["decode-0"])


def spans_of(data: Path, request: str) -> list[dict[str, Any]]:
    """What `xpod trace` knows of a request."""
    asked = xpod("trace", request, "--json", data=data)
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    assert found["silent"] == []
    return list(found["spans"])


def test_a_trace_has_a_part_of_every_service(data: Path) -> None:
    asked = xpod("run", PROMPT, "--max-tokens", "8", "--temperature", "0", "--json", "--traced", data=data)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    spans = spans_of(data, answer["id"])
    assert {span["trace"] for span in spans} == {answer["trace"]}
    assert {(span["kind"], span["name"]) for span in spans} >= {
        ("router", "request"), ("router", "session"), ("router", "admission"), ("router", "attempt"),
        ("prefill", "queue"), ("prefill", "chunk"), ("prefill", "hop"), ("prefill", "store"),
        ("mempool", "pool.fetch"), ("mempool", "pool.store"), ("expert", "expert"),
        ("decode", "transfer"), ("decode", "step"), ("decode", "hop"),
    }  # fmt: skip
    for word in ("admission", "chunk", "step", "hop x", "expert x", "█"):
        assert word in asked.stderr, "the waterfall"
    listed = xpod("trace", data=data)
    assert listed.stdout.splitlines()[1].startswith(answer["id"])


def test_a_trace_shows_the_death_of_a_worker_and_the_attempt_after_it(data: Path) -> None:
    url, context = status(data)["endpoints"][0], TraceContext(new_trace(), new_span(), sampled=True)
    body = {"prompt": PROMPT, "max_tokens": 400, "temperature": 0, "ignore_eos": True, "stream": True}
    with (
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
        http.stream("POST", "/v1/completions", json=body, headers={HEADER: context.header}) as answer,
    ):
        events = answer.iter_lines()
        for _ in range(20):
            next(events)
        [victim] = [
            span["member"]
            for span in spans_of(data, context.trace)
            if span["name"] == "decode" and span["end_ns"] is None
        ]
        assert xpod("kill", victim, data=data).returncode == 0
        assert [line for line in events if line][-1] == "data: [DONE]"
    spans = spans_of(data, context.trace)
    lost, kept = (
        span for span in spans if span["name"] == "attempt" and span["attributes"]["kind"] == "decode"
    )
    assert (lost["attributes"]["worker"], victim in lost["error"]) == (victim, True)
    assert (kept["attributes"]["worker"] != victim, kept["error"]) == (True, None)
    [recovery] = [span for span in spans if span["name"] == "recovery"]
    assert lost["end_ns"] <= recovery["start_ns"] < recovery["end_ns"] <= kept["end_ns"]
    [decode] = [span for span in spans if span["name"] == "decode"]
    assert (decode["parent"], decode["member"]) == (kept["span"], kept["attributes"]["worker"])


def test_a_drained_worker_hands_over_and_comes_back_under_a_stream(data: Path) -> None:
    """Each decode worker in turn, so that one of them has the stream."""
    asking = ["run", "import os", "--max-tokens", "900", "--temperature", "0.9", "--seed", "3", "--json"]
    expected = json.loads(xpod(*asking, data=data).stdout)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
    with subprocess.Popen(
        [sys.executable, "-m", "xpod.cli", *asking],
        env={**environ, "XPOD_DATA": str(data)},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        drained = xpod("drain", "decode-0", "decode-1", data=data)
        answer = json.loads(running.communicate(timeout=60)[0])
    assert drained.returncode == 0, drained.stderr
    assert [line.split(":")[0] for line in drained.stdout.splitlines()] == ["decode-0", "decode-1"]
    assert (answer["tokens"], answer["logprobs"]) == (expected["tokens"], expected["logprobs"])
    assert [member["state"] for member in status(data)["members"]] == ["up"] * 11


def test_the_example_client_outlives_its_router(data: Path) -> None:
    asked = xpod("run", PROMPT, "--max-tokens", "200", "--temperature", "0", "--json", data=data)
    example = [sys.executable, str(EXAMPLE), PROMPT, *status(data)["endpoints"]]
    with subprocess.Popen(example, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        begun = client.stdout.read(20)
        assert xpod("kill", "router-0", data=data).returncode == 0
        rest = client.stdout.read()  # `communicate` would miss what is buffered
    assert client.returncode == 0
    assert begun + rest == json.loads(asked.stdout)["text"]
