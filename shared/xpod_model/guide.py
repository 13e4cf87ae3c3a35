"""Which tokens may come next by a grammar.

That is a function of the grammar and of the tokens so far and of nothing else: whoever has both goes on where another
one stopped. It does not know torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import llguidance
import numpy as np
import numpy.typing as npt

from xpod_model.errors import GrammarError
from xpod_model.grammar import first_line, limits


class Grammars:
    """Guides through the tokens of one model directory; `vocab` is the size of its logits."""

    def __init__(self, directory: Path, vocab: int, eos: Iterable[int]) -> None:
        self._directory, self._vocab, self._eos = directory, vocab, sorted(set(eos))

    def guide(self, grammar: str, generated: Sequence[int] = ()) -> Guide:
        """Behind these tokens. The first one reads the tokenizer. Any thread. Raises GrammarError."""
        return Guide(self._tokenizer, grammar, generated, self._vocab)

    @cached_property
    def _tokenizer(self) -> llguidance.LLTokenizer:
        if not self._eos:
            raise GrammarError("the model has no token that ends a text, so no grammar can end one")
        path = self._directory / "tokenizer.json"
        try:
            return llguidance.LLTokenizer(str(path), n_vocab=self._vocab, eos_token=self._eos)
        except ValueError as error:
            raise GrammarError(f"the tokenizer cannot be guided: {error}") from error


class Guide:
    """Where one sequence is in its grammar."""

    def __init__(
        self, tokenizer: llguidance.LLTokenizer, grammar: str, generated: Sequence[int], vocab: int
    ) -> None:
        self._matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=limits())
        self._mask = np.zeros((vocab + 31) // 32, np.int32)
        self._vocab = vocab
        self._check()
        for token in generated:
            self.advance(token)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """[V] bool: the tokens that may come next, one at least. Raises GrammarError where that takes too much work."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocab)
        return bits.view(np.bool_)

    def advance(self, token: int) -> None:
        """This token came. Raises GrammarError where it may not come."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(first_line(self._matcher.get_error()))
