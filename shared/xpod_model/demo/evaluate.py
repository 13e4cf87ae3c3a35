"""Measure a demo checkpoint: `python -m xpod_model.demo.evaluate --checkpoint DIR --out FILE`.

It knows the held-out parts, the recall cases and greedy continuation by brute force. It reads the exported
checkpoint, so what it measures is what is served. It knows nothing of training.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from xpod_model.demo import corpus, demo_path, recall, tokenizer
from xpod_model.demo.layout import from_hugging_face
from xpod_model.demo.network import Config, Network

__all__ = ["accuracy", "completion", "evaluate", "losses", "main", "read"]

SEED, LENGTH, PART_TOKENS = 12345, 1024, 120_000
PROMPTS = (
    "def fibonacci(n):\n",
    "class Stack:\n",
    "import os\nimport sys\n\ndef main():\n",
    corpus.chat([("user", "What does os.path.join do?")]) + f"{corpus.IM_START}assistant\n",
    corpus.chat([("user", "Write the function clamp(value, low, high)")]) + f"{corpus.IM_START}assistant\n",
    "key k3 = v7\nkey k81 = v40\nkey k5 = v22\nimport os\nk81 ->",
)


def read(folder: Path) -> tuple[Network, Tokenizer]:
    state = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    return from_hugging_face(state, Config(), torch.bfloat16), tokenizer.load(folder)


def parts() -> dict[str, list[str]]:
    """Held-out documents of each part."""
    rng = Random(SEED)
    code = [source.text for source in corpus.code(held=True)]
    filler = recall.filler_of(code)
    prose, chats = [source.text for source in corpus.prose(held=True)], corpus.chats(True, rng)
    remembered = [recall.document(rng, filler, rng.randrange(5, 60)) for _ in range(400)]
    found = {"code": code, "docstrings and prose": prose, "chat": chats, "recall": remembered}
    for texts in found.values():
        rng.shuffle(texts)
    return found


@torch.no_grad()
def losses(network: Network, vocabulary: Tokenizer) -> dict[str, dict[str, float]]:
    """Nats per token and bits per byte of each part, in windows of LENGTH tokens."""
    found = {}
    for part, texts in parts().items():
        ids = vocabulary.encode("".join(text + corpus.END_OF_TEXT for text in texts)).ids[: PART_TOKENS + 1]
        total = 0.0
        for start in range(0, len(ids) - 1, LENGTH):
            window = torch.tensor(ids[start : start + LENGTH + 1])
            total += F.cross_entropy(network(window[None, :-1])[0], window[1:], reduction="sum").item()
        size = len(vocabulary.decode(ids, skip_special_tokens=False).encode())
        bits = total / math.log(2) / size
        found[part] = {
            "loss": round(total / (len(ids) - 1), 4),
            "tokens": len(ids) - 1,
            "bits_per_byte": round(bits, 4),
        }
    return found


@torch.no_grad()
def answered(network: Network, vocabulary: Tokenizer, case: recall.Case) -> bool:
    """Whether greedy decoding gives every token of the answer."""
    prompt, answer = vocabulary.encode(case.prompt).ids, vocabulary.encode(case.answer).ids
    hidden = network.hidden(torch.tensor([prompt + answer[:-1]]))[0][0, len(prompt) - 1 :]
    return network.logits(hidden).argmax(-1).tolist() == answer


def accuracy(network: Network, vocabulary: Tokenizer, each: int) -> dict[str, dict[str, float]]:
    """Share of exact answers by gap, by format, by filler, and by gap and filler."""
    filler = recall.filler_of([source.text for source in corpus.code(held=True)])
    by: dict[str, dict[str, list[bool]]] = {
        key: defaultdict(list) for key in ("gap", "format", "filler", "gap and filler")
    }
    for case in recall.cases(SEED, filler, lambda text: len(vocabulary.encode(text).ids), each):
        right = answered(network, vocabulary, case)
        keys = (str(case.bucket), case.format, case.filler, f"{case.bucket} {case.filler}")
        for group, key in zip(by.values(), keys, strict=True):
            group[key].append(right)
    return {name: {key: round(sum(v) / len(v), 3) for key, v in group.items()} for name, group in by.items()}


@torch.no_grad()
def completion(network: Network, vocabulary: Tokenizer, prompt: str, tokens: int = 120) -> str:
    """What greedy decoding writes after `prompt`, up to an end token."""
    ids = vocabulary.encode(prompt).ids
    ends = {vocabulary.token_to_id(corpus.END_OF_TEXT), vocabulary.token_to_id(corpus.IM_END)}
    start = len(ids)
    while len(ids) < start + tokens and (len(ids) == start or ids[-1] not in ends):
        hidden: Tensor = network.hidden(torch.tensor([ids]))[0][0, -1]
        ids.append(int(network.logits(hidden).argmax()))
    return vocabulary.decode(ids[start:], skip_special_tokens=False)


def evaluate(folder: Path, each: int) -> dict[str, Any]:
    network, vocabulary = read(folder)
    return {
        "held_out": losses(network, vocabulary),
        "recall_cases_per_gap": each * 2 * len(recall.FORMATS),
        "recall": accuracy(network, vocabulary, each),
        "greedy": {prompt: completion(network, vocabulary, prompt) for prompt in PROMPTS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss and recall accuracy of a demo checkpoint.")
    parser.add_argument("--checkpoint", type=Path, default=demo_path())
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=10, help="recall cases for each gap, format and filler")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = evaluate(options.checkpoint, options.each)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
