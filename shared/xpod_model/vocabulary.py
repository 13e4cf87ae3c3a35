"""How tokenizers spell bytes: GPT-2's byte alphabet, and byte fallback. It knows no tokenizer object."""

import re
from functools import cache

BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


@cache
def byte_alphabet() -> dict[str, int]:
    """Printable stand-in -> byte, as in GPT-2's encoder.py: printable bytes stand for themselves."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {chr(256 + i): byte for i, byte in enumerate(moved)}


def token_bytes(token: str, byte_level: bool) -> bytes:
    """The bytes of a token as the vocabulary spells it."""
    alphabet = byte_alphabet()
    if byte_level and all(letter in alphabet for letter in token):
        return bytes(alphabet[letter] for letter in token)
    fallback = BYTE_FALLBACK.fullmatch(token)
    if fallback:
        return bytes([int(fallback[1], 16)])
    return token.replace("\u2581", " ").encode()
