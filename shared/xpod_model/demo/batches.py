"""What each training step reads: library text packed without padding, and whole recall documents.

It knows token ids and the mixture. It knows nothing of networks. Step s of seed r is a function of (r, s) and of
where the text stream stands, so a resumed run reads what an unbroken one would have.
"""

from itertools import chain
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xpod_model.demo import corpus, recall

__all__ = ["Batches"]

# Share of recall sequences in a batch, and of echoes in them: first until copying is learnt, then for good.
COPYING_STEPS, COPYING, SETTLED = 60, (0.4, 0.5), (0.3, 0.1)


class Batches:
    """The training mixture for one tokenizer and seed."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.tokenizer, self.seed = tokenizer, seed
        self.code = corpus.code(held=False)
        self.prose = corpus.prose(held=False)
        self.filler = recall.filler_of([source.text for source in self.code])
        self.epoch = -1
        self.cursor = 0
        self.stream: NDArray[np.uint16] = np.zeros(0, np.uint16)

    def texts(self, epoch: int) -> list[str]:
        """Every document of one epoch, in its order."""
        rng = Random(f"{self.seed}/epoch/{epoch}")
        found = [source.text for source in chain(self.code, self.prose)] + corpus.chats(False, rng)
        rng.shuffle(found)
        return found

    def seek(self, epoch: int, cursor: int) -> None:
        encoded = self.tokenizer.encode_batch_fast([text + corpus.END_OF_TEXT for text in self.texts(epoch)])
        self.stream = np.concatenate([np.array(one.ids, np.uint16) for one in encoded])
        self.epoch, self.cursor = epoch, cursor

    def take(self, count: int) -> list[int]:
        """The next `count` tokens of the text stream."""
        if self.cursor + count > len(self.stream):
            self.seek(self.epoch + 1, 0)
        self.cursor += count
        return [int(i) for i in self.stream[self.cursor - count : self.cursor]]

    def recalled(self, rng: Random, count: int, echoes: float) -> list[int]:
        """`count` tokens of recall documents, a share `echoes` of them mere repetition, the last one cut."""
        ids: list[int] = []
        while len(ids) < count:
            lines = int((count - len(ids)) / 11 * rng.uniform(0.1, 1.0))
            echoed = rng.random() < echoes
            text = recall.echo(rng, self.filler) if echoed else recall.document(rng, self.filler, lines)
            ids += self.tokenizer.encode(text + corpus.END_OF_TEXT).ids
        return ids[:count]

    def batch(self, step: int, sequences: int, length: int) -> NDArray[np.int64]:
        """[B, N + 1]: inputs and, one further, labels."""
        rng = Random(f"{self.seed}/step/{step}")
        # A fixed share a batch, the fraction decided by chance: less noise than a coin a sequence.
        share, echoes = COPYING if step < COPYING_STEPS else SETTLED
        wanted = int(sequences * share + rng.random())
        rows = [
            self.recalled(rng, length + 1, echoes) if i < wanted else self.take(length + 1)
            for i in range(sequences)
        ]
        return np.array(rows, np.int64)
