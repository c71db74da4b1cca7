"""How many tokens a text may be, where no tokenizer of the model is at hand."""

from __future__ import annotations

from string import ascii_letters, whitespace
from typing import Final

__all__ = ["tokens_at_most"]

_WORDY: Final = ascii_letters.encode() + whitespace.encode()
_LETTERS_PER_TOKEN: Final = 8 / 3
_WORD: Final = 40
"""Bytes: what is longer is no word, but a key or encoded bytes, of which a token may take a single one."""


def tokens_at_most(text: str) -> int:
    """Tokens that a text hardly exceeds, whatever the model's tokenizer.

    Tokenizers of today begin with single bytes and have words, and parts of words, for what is common: ordinary English has
    about four letters to a token, of which less than three are counted on here, and everything else may be a token a byte:
    digits, signs, other scripts. Of `cl100k_base` this is 1.6 times its count for English, 1.9 for code, 2.9 for Chinese.
    """
    data = text.encode("utf-8", "surrogatepass")
    odd = sum(len(word) for word in data.split() if len(word) > _WORD)
    wordy = max(0, len(data) - len(data.translate(None, _WORDY)) - odd)
    return len(data) - wordy + round(wordy / _LETTERS_PER_TOKEN)
