"""The benchmark model, small: whole, loadable, the same again, and nobody else's directory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Command
from xpod.cli.bench.recipe import Recipe
from xpod.cli.bench.weights import bf16_bits, tensor_bits
from xpod_model.checkpoint import Checkpoint
from xpod_model.text import Text

SIZES = {
    "--layers": 2,
    "--hidden": 64,
    "--num-experts": 8,
    "--experts-per-token": 2,
    "--expert-width": 32,
    "--heads": 4,
    "--kv-heads": 2,
    "--head-dim": 16,
    "--vocab": 600,
    "--max-positions": 256,
}
SMALL = [part for option, value in SIZES.items() for part in (option, str(value))]


def make(command: Command, out: Path, *arguments: str) -> Path:
    result = command("bench", "make-model", "--out", str(out), *SMALL, *arguments)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == out
    return out


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_it_is_a_checkpoint(command: Command, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(make(command, tmp_path / "m"))
    checkpoint.validate()
    assert checkpoint.config.experts_per_token == 2
    assert len(list(checkpoint.directory.glob("*.safetensors"))) == 3, (
        "what is outside of layers, and each layer"
    )
    assert {checkpoint.raw(name)[0] for name in checkpoint.names} == {"bf16"}


def test_its_text(command: Command, tmp_path: Path) -> None:
    text = Text.load(make(command, tmp_path / "m"))
    assert text.vocab == 600
    assert text.eos_token_ids == (2, 0)
    assert text.decode(text.encode("größer: 東")) == "größer: 東"
    assert text.decode([300, 599]) == " w300 w599"
    prompt = text.apply_chat_template([{"role": "user", "content": "hi"}])
    assert prompt == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert text.encode(prompt)[0] == 1


def test_transformers_loads_it_and_agrees(command: Command, tmp_path: Path) -> None:
    import torch

    from xpod_model.reference import Reference

    out = make(command, tmp_path / "m")
    prompt = [100, 200, 300, 400]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # transformers' own
        from transformers import AutoTokenizer, Qwen3MoeForCausalLM

        model = Qwen3MoeForCausalLM.from_pretrained(out, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
        theirs = model(torch.tensor([prompt])).logits[0]
        assert AutoTokenizer.from_pretrained(out).encode("hi") == Text.load(out).encode("hi")
    ours = Reference.load(out, "fp32").logits(prompt)
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.std())


def test_the_seed_makes_the_bytes(command: Command, tmp_path: Path) -> None:
    one, same, other = (
        digests(make(command, tmp_path / name, "--seed", seed))
        for name, seed in (("a", "3"), ("b", "3"), ("c", "4"))
    )
    assert one == same
    assert {name for name in one if one[name] != other[name]} == {
        "xpod_bench.json",
        *(name for name in one if name.endswith("safetensors")),
    }


def test_the_bytes_are_these() -> None:
    """They may never change without another Recipe.VERSION: results are compared over time."""
    (bits,) = tensor_bits(0, "model.layers.0.mlp.gate.weight", (32, 64))
    assert hashlib.sha256(bits.tobytes()).hexdigest()[:16] == "ef577809ce327321"


def test_weights_are_spread_as_said_and_chunks_do_not_show() -> None:
    (bits,) = tensor_bits(0, "x.weight", (1000, 400))
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert float(values.std()) == pytest.approx(0.05, rel=0.01)
    assert abs(float(values.mean())) < 0.001
    whole = np.concatenate(list(tensor_bits(0, "x.weight", (3000, 1000))))
    assert whole.size == 3_000_000
    assert len(set(whole[::100_000].tolist())) > 20


def test_bf16_is_rounded_to_nearest_even() -> None:
    import torch

    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values = np.concatenate([values, np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)])
    theirs = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(bf16_bits(values), theirs)


def test_what_is_there_is_not_written_again(command: Command, tmp_path: Path) -> None:
    out = make(command, tmp_path / "m")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    make(command, out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_half_a_model_is_written_again(command: Command, tmp_path: Path) -> None:
    out = make(command, tmp_path / "m")
    whole = digests(out)
    shard = next(out.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert digests(make(command, out)) == whole


@pytest.mark.parametrize("files", [["config.json"], ["notes.txt"]])
def test_a_directory_with_something_else_is_left_alone(
    command: Command, tmp_path: Path, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    result = command("bench", "make-model", "--out", str(tmp_path), *SMALL)
    assert result.returncode == 2
    assert result.stderr == f"xpod: --out: {tmp_path} holds something else\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--seed", "9"], 2, "holds a benchmark model of another recipe"),
        (["--heads", "3"], 2, "3 heads do not divide over 2 KV heads"),
        (["--experts-per-token", "9"], 2, "9 experts per token of 8"),
        (["--vocab", "10"], 2, "'--vocab'"),
        (["--out", "/dev/null/x"], 3, "cannot be written"),
        (["--vocab", "2000000000", "--out", "/tmp/x/y"], 3, "MiB free, the model needs"),
    ],
)
def test_what_cannot_be_is_one_line(
    command: Command, tmp_path: Path, arguments: list[str], status: int, reason: str
) -> None:
    out = make(command, tmp_path / "m")
    result = command("bench", "make-model", "--out", str(out), *SMALL, *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_cache_is_where_xdg_says(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = command("bench", "make-model", *SMALL)
    directory = Path(result.stdout.strip())
    assert directory.parent == tmp_path / "xpod"
    Checkpoint.open(directory).validate()


def test_the_default_is_the_model_of_the_benchmarks() -> None:
    shapes = [shape for tensors in Recipe().shards() for _, shape in tensors]
    assert len(list(Recipe().shards())) == 17
    assert 0.91e9 < sum(int(np.prod(shape)) for shape in shapes) < 0.92e9


def test_torch_and_numpy_stay_out(environment: dict[str, str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from xpod.cli.main import run_command\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"
        f"assert run_command(['bench', 'make-model', '--out', {str(tmp_path / 'm')!r}, *{SMALL!r}]) == 0\n"
        "assert not {'torch', 'safetensors'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
