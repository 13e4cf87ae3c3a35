"""From logits to a token: a pure function of logits, parameters, seed, position and the ids so far.

There is no generator state: whoever holds the same inputs draws the same token. It knows no model and no session.

Order, as in vLLM and transformers: penalties, bias, minimum length, grammar, temperature, then min_p, top_k and top_p.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xpod_model.errors import SamplingError
from xpod_model.philox import uniform


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off; logprobs -1 is none, else how many alternatives.

    eos_token_ids cannot be drawn before min_tokens tokens are generated. Penalties are those of the OpenAI API
    (presence and frequency: of generated ids, subtracted) and of CTRL, arXiv 1909.05858 (repetition: of prompt and
    generated ids, dividing what is positive and multiplying what is not).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    min_tokens: int = 0
    eos_token_ids: tuple[int, ...] = ()
    logprobs: int = -1

    def __post_init__(self) -> None:
        checks = [
            (self.temperature >= 0 and math.isfinite(self.temperature), "temperature must be 0 or more"),
            (0 < self.top_p <= 1, "top_p must be above 0 and at most 1"),
            (self.top_k >= -1, "top_k must be -1 or more"),
            (0 <= self.min_p <= 1, "min_p must be from 0 to 1"),
            (self.repetition_penalty > 0, "repetition_penalty must be above 0"),
            (self.logprobs >= -1, "logprobs must be -1 or more"),
        ]
        for good, message in checks:
            if not good:
                raise SamplingError(message)

    @property
    def greedy(self) -> bool:
        """Whether this is the argmax of the raw logits, and nothing else."""
        return self.temperature == 0 and not self.edits

    @property
    def edits(self) -> bool:
        """Whether anything but temperature and filters touches the logits."""
        penalties = self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        return penalties or bool(self.logit_bias) or (self.min_tokens > 0 and bool(self.eos_token_ids))


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, its natural-log probability under the raw logits, and the likeliest alternatives (token, logprob)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def sample(
    logits: Tensor,
    sampling: Sampling,
    position: int,
    prompt_ids: Sequence[int] = (),
    generated_ids: Sequence[int] = (),
    *,
    allowed: Tensor | None = None,
) -> Sampled:
    """Draw the token that stands at `position` from logits [V] fp32, which stay as they are.

    `allowed` [V] bool has those that a grammar allows, one at least.

    Equal inputs give equal outputs to the bit. logprob is the log-softmax of the raw logits, before penalties and
    temperature, as vLLM reports it.
    """
    edited = _edit(logits, sampling, prompt_ids, generated_ids) if sampling.edits else logits
    if allowed is not None:
        edited = edited.masked_fill(~allowed, -math.inf)
    token = int(_argmax(edited)) if sampling.temperature == 0 else _draw(edited, sampling, position)
    return likelihood(logits, token, sampling.logprobs)


def sample_greedy(logits: Tensor) -> list[Sampled]:
    """The likeliest token of each row of [n, V], lowest index on ties: `sample` at temperature 0, row for row."""
    tokens = _argmax(logits).unsqueeze(-1)  # [n, 1]
    logprobs = torch.log_softmax(logits, dim=-1).gather(1, tokens)
    pairs = zip(tokens.flatten().tolist(), logprobs.flatten().tolist(), strict=True)
    return [Sampled(token, logprob) for token, logprob in pairs]


def _argmax(logits: Tensor) -> Tensor:
    """[..., V] -> [...]: the first of the largest. On the CPU numpy looks at a vector at a time, and torch does not."""
    if logits.device.type != "cpu":
        return logits.argmax(dim=-1)
    return torch.as_tensor(logits.numpy().argmax(axis=-1))


def likelihood(logits: Tensor, token: int, count: int) -> Sampled:
    """How likely `token` is by logits [V], and the `count` likeliest beside it, lowest index first on ties."""
    logprobs = torch.log_softmax(logits, dim=-1)  # [V]
    if count <= 0:
        return Sampled(token, float(logprobs[token]))
    # a stable sort of the few that can matter: topk leaves the order of ties open
    floor = torch.topk(logprobs, min(count, logprobs.numel())).values[-1]
    ids = (logprobs >= floor).nonzero().flatten()
    best = torch.sort(logprobs[ids], descending=True, stable=True).indices[:count]
    top = zip(ids[best].tolist(), logprobs[ids[best]].tolist(), strict=True)
    return Sampled(token, float(logprobs[token]), tuple(top))


def _edit(logits: Tensor, sampling: Sampling, prompt: Sequence[int], generated: Sequence[int]) -> Tensor:
    edited = logits.clone()
    if sampling.repetition_penalty != 1:
        seen = _ids(sorted({*prompt, *generated}), logits)
        values = edited[seen]
        penalty = sampling.repetition_penalty
        edited[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if generated and (sampling.presence_penalty != 0 or sampling.frequency_penalty != 0):
        counts = Counter(generated)
        times = torch.tensor(list(counts.values()), dtype=torch.float32, device=logits.device)
        edited[_ids(list(counts), logits)] -= times * sampling.frequency_penalty + sampling.presence_penalty
    for token, bias in sampling.logit_bias:
        if 0 <= token < edited.numel():
            edited[token] += bias
    if len(generated) < sampling.min_tokens:
        edited[_ids([i for i in sampling.eos_token_ids if i < edited.numel()], logits)] = -math.inf
    return edited


def _ids(ids: list[int], like: Tensor) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64, device=like.device)


def _draw(logits: Tensor, sampling: Sampling, position: int) -> int:
    """Inverse transform sampling, in fp64, over the tokens that pass the filters, likeliest first."""
    count = sampling.top_k if sampling.top_k > 0 else logits.numel()
    scaled = logits.double() / sampling.temperature
    values, order = _descending(scaled, min(count, logits.numel()))
    values = values[values > -math.inf]
    if sampling.min_p > 0:
        values = values[values >= values[0] + math.log(sampling.min_p)]
    probabilities = torch.softmax(values, dim=0)
    sums = probabilities.cumsum(0)
    if sampling.top_p < 1:
        # a token stays if those before it have not reached top_p: the first always does
        kept = int((sums - probabilities < sampling.top_p).sum())
        sums = sums[:kept]
    threshold = uniform(sampling.seed, position) * float(sums[-1])
    index = int(torch.searchsorted(sums, threshold, right=True))
    return int(order[min(index, sums.numel() - 1)])


def _descending(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of [V] with their indices, largest first; ties go to the lower index."""
    if count < values.numel():
        floor = torch.topk(values, count).values[-1]
        ids = (values >= floor).nonzero().flatten()
        top, at = torch.sort(values[ids], descending=True, stable=True)
        return top[:count], ids[at[:count]]
    top, order = torch.sort(values, descending=True, stable=True)
    return top, order
