"""Names and words of the simulated world: each category has words of its own, so ad text tells topics."""

from __future__ import annotations

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
    kinds = uniform(seed, "phrase kind", rows[:, None], places)
    picks = hashes(seed, "phrase word", rows[:, None], places)
    level = np.where(places < TITLE_WORDS, noise / 2, noise)
    pools = [*words, _COMMON]
    topic = np.where(kinds > 1 - 0.15 * (1 - level), other[:, None], own[:, None])
    pool = np.where(kinds < level, len(words), topic)
    sizes = np.array([len(each) for each in pools])
    starts = np.cumsum(sizes) - sizes
    place = starts[pool] + (picks % sizes[pool].astype(np.uint64)).astype(np.int64)
    drawn = np.array([word for each in pools for word in each], dtype=np.object_)[place].tolist()
    return [(" ".join(row[:TITLE_WORDS]), " ".join(row[TITLE_WORDS:])) for row in drawn]
