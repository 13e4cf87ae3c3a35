"""Write a training state as a Hugging Face checkpoint: `python -m xpod_model.demo.export --state DIR --to DIR`.

It knows file names and formats. It knows nothing of training.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from xpod_model.demo.layout import hugging_face_config, hugging_face_state
from xpod_model.demo.network import Config, Network

__all__ = ["export", "main"]

# What a request gets that does not say: greedy text of so small a model repeats itself. No penalty among them, so that
# temperature 0 is plain argmax.
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def export(state: Path, to: Path) -> None:
    """model.safetensors in bf16, config.json and generation_config.json as transformers writes them, the tokenizer."""
    from transformers import GenerationConfig, Qwen3MoeConfig

    config = Config()
    network = Network(config)
    network.load_state_dict(torch.load(state / "state.pt", weights_only=True)["network"])
    to.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.bfloat16().contiguous() for name, weight in hugging_face_state(network).items()}
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    rope = {"rope_type": "default", "rope_theta": config.theta}
    described = Qwen3MoeConfig(**hugging_face_config(config), rope_parameters=rope)
    described.architectures, described.dtype = ["Qwen3MoeForCausalLM"], "bfloat16"
    described.save_pretrained(to)
    old_names = {
        "num_experts": config.experts,
        "rope_theta": config.theta,
    }  # what readers before transformers 5 expect
    written = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(written | old_names, indent=2, sort_keys=True) + "\n")
    # eos: a chat turn ends with <|im_end|>, a text with <|endoftext|>.
    generation = GenerationConfig(eos_token_id=[2, 0], pad_token_id=3, **SAMPLING)  # type: ignore[no-untyped-call]
    generation.save_pretrained(to)
    for name in TOKENIZER_FILES:
        shutil.copyfile(state / name, to / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    export(options.state, options.to)
    size = (options.to / "model.safetensors").stat().st_size
    print(json.dumps({"to": options.to.name, "bytes": size}))


if __name__ == "__main__":
    main()
