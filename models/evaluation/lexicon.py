"""Names and words of the simulated world: each category has words of its own, so ad text tells topics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .draws import hashes, uniform

CATEGORIES = tuple(
    "travel cooking garden running cinema music books gaming finance fashion beauty cars bikes pets "  # noqa: SIM905
    "toddlers furniture phones laptops cameras insurance coffee wine fishing climbing yoga football "
    "tennis ski sailing crafts antiques jewelry".split()
)
_ONSETS = (*"bcdfgklmnprstvwz", "br", "dr", "fl", "gl", "kr", "pl", "sh", "st", "tr")
_VOWELS = (*"aeiou", "ai", "ea", "io", "ou")
_CODAS = ("", "", *"lmnrstx")
WORDS_PER_CATEGORY = 40
_COMMON = tuple("the best new for your with today offer save now great find from more free every".split())  # noqa: SIM905


def category_name(category: int) -> str:
    """Return the name of a category."""
    return CATEGORIES[category] if category < len(CATEGORIES) else f"topic{category}"


def _syllable(h: int) -> str:
    onset = _ONSETS[h % len(_ONSETS)]
    vowel = _VOWELS[(h >> 8) % len(_VOWELS)]
    return onset + vowel + _CODAS[(h >> 16) % len(_CODAS)]


def category_words(seed: int, category: int) -> list[str]:
    """Return the words of a category: its name and made-up words of two syllables."""
    h = hashes(seed, "word", category, np.arange(2 * WORDS_PER_CATEGORY)).tolist()
    made = [_syllable(a) + _syllable(b) for a, b in zip(h[::2], h[1::2], strict=True)]
    return [category_name(category), *made[1:]]


TITLE_WORDS, TEXT_WORDS = 4, 16


def ad_texts(
    seed: int, rows: NDArray[np.int64], own: NDArray[np.int64], other: NDArray[np.int64],
    words: list[list[str]], noise: float,
) -> list[tuple[str, str]]:  # fmt: skip
    """Return title and text of each ad, drawn from the `words` `[C][n]` of its two categories.

    A share `noise` of the text (half of it in the title) is of no category.
    """
    places = np.arange(TITLE_WORDS + TEXT_WORDS)
    kinds = uniform(seed, "phrase kind", rows[:, None], places).tolist()
    picks = hashes(seed, "phrase word", rows[:, None], places).tolist()
    texts = []
    for kind, pick, a, b in zip(kinds, picks, own.tolist(), other.tolist(), strict=True):
        title = _phrase(kind[:TITLE_WORDS], pick[:TITLE_WORDS], words[a], words[b], noise / 2)
        texts.append((title, _phrase(kind[TITLE_WORDS:], pick[TITLE_WORDS:], words[a], words[b], noise)))
    return texts


def _phrase(kinds: list[float], picks: list[int], own: list[str], other: list[str], noise: float) -> str:
    pools: Iterator[Sequence[str]] = (
        _COMMON if k < noise else other if k > 1 - 0.15 * (1 - noise) else own for k in kinds
    )
    return " ".join(pool[pick % len(pool)] for pool, pick in zip(pools, picks, strict=True))
