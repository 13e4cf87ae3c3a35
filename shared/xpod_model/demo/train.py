"""Train the demo model: `python -m xpod_model.demo.train --out DIR --steps N --seed S --threads T`.

It knows the schedule, the log and the state kept for a resume. What a batch is, how a gradient becomes an update
and how the result is exported are other files. A run that is started again goes on where its last saved state
stands; `--steps` lowered then brings the decay forward.
"""

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xpod_model.demo import corpus, tokenizer
from xpod_model.demo.batches import Batches
from xpod_model.demo.loss import chunked_loss
from xpod_model.demo.network import Config, Network
from xpod_model.demo.optimizer import optimizers
from xpod_model.demo.priming import prime

__all__ = ["main"]

# Until this share of the steps: sequences a step, tokens a sequence.
STAGES = ((0.35, 16, 256), (0.75, 8, 512), (0.92, 4, 1024), (1.0, 2, 2048))
WARMUP, DECAY = 40, 0.65  # steps; share of the steps over which the rate falls to zero
BALANCE = 0.01


def stage(step: int, steps: int) -> tuple[int, int]:
    """(sequences, length) of a step."""
    return next((b, n) for until, b, n in STAGES if step < until * steps or until == 1.0)


def rate(step: int, steps: int) -> float:
    """The factor of every learning rate: up, flat, then linearly to zero."""
    return min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


class Run:
    """One training run: everything that a resume has to bring back."""

    def __init__(self, out: Path, seed: int, threads: int) -> None:
        self.out, self.threads, self.step, self.tokens, self.seconds = out, threads, 0, 0, 0.0
        self.pool = ThreadPoolExecutor(threads)
        if not (out / "tokenizer.json").exists():
            texts = [source.text for source in corpus.code(False) + corpus.prose(False)]
            tokenizer.save(tokenizer.train(texts), out, Config().positions)
        torch.manual_seed(seed)
        self.network = Network(Config())
        prime(self.network)
        self.optimizers = optimizers(self.network)
        self.peak = [group["lr"] for o in self.optimizers for group in o.param_groups]
        self.batches = Batches(tokenizer.load(out), seed)
        if (out / "state.pt").exists():
            self.load()

    def load(self) -> None:
        state = torch.load(self.out / "state.pt", weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.batches.seek(*state["stream"])

    def save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "stream": (self.batches.epoch, self.batches.cursor),
            **self.progress(),
        }
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")
        (self.out / "progress.json").write_text(json.dumps(self.progress()))

    def progress(self) -> dict[str, float]:
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def train_step(self, steps: int) -> tuple[float, float]:
        """One update; its loss and the share of the tokens that the busiest expert of a layer got."""
        start = time.perf_counter()
        ids = torch.from_numpy(self.batches.batch(self.step, *stage(self.step, steps)))
        shares = [ids[i :: self.threads] for i in range(min(self.threads, len(ids)))]
        results = list(self.pool.map(self.gradients, shares))
        for p, *grads in zip(self.network.parameters(), *(grads for grads, _, _ in results), strict=True):
            p.grad = torch.stack(grads).mean(0) if len(grads) > 1 else grads[0]
        self.update(rate(self.step, steps))
        self.step, self.tokens = self.step + 1, self.tokens + ids[:, 1:].numel()
        self.seconds += time.perf_counter() - start
        load = torch.stack([load for _, _, load in results]).sum(0)
        busiest = (load.max(1).values / load.sum(1)).max().item()
        return sum(loss for _, loss, _ in results) / len(results), busiest

    def gradients(self, ids: Tensor) -> tuple[tuple[Tensor, ...], float, Tensor]:
        """Gradients of a share [B', N + 1] of the batch, its loss, tokens per layer and expert.

        Each share has a thread and each thread one core: nobody waits for anybody but once a step.
        """
        torch.set_num_threads(1)
        network, labels = self.network, ids[:, 1:].flatten()
        hidden, balance, load = network.hidden(ids[:, :-1])
        loss = chunked_loss(hidden.flatten(0, 1), network.embedding, labels, network.compute)
        grads = torch.autograd.grad(loss + BALANCE * balance, list(network.parameters()))
        return grads, loss.item(), load

    def update(self, factor: float) -> None:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, self.peak, strict=True):
            group["lr"] = peak * factor
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model; run again to resume.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the tokenizer and the training state"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--save-every", type=int, default=100)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.out, options.seed, options.threads)
    losses: list[float] = []
    while run.step < options.steps:
        loss, busiest = run.train_step(options.steps)
        if not math.isfinite(loss):
            raise RuntimeError(f"step {run.step}: the loss is {loss}")
        losses.append(loss)
        if run.step % options.log_every == 0:
            speed = run.tokens / run.seconds
            mean = sum(losses) / len(losses)
            print(
                f"step {run.step} loss {mean:.3f} busiest {busiest:.2f} tokens {run.tokens} {speed:.0f}/s",
                flush=True,
            )
            losses.clear()
        if run.step % options.save_every == 0 or run.step == options.steps:
            run.save()


if __name__ == "__main__":
    main()
