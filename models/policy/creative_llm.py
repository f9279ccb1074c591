"""Creatives written by a local language model; off by default, and needs the extra `creatives`.

The text is a suggestion like any other generated creative: labelled, pending, and shown to nobody
before its review. Decoding is greedy, so the same model writes the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from models.domain.catalogue import Ad, Creative
from models.domain.errors import ImpulseError, SettingError
from models.domain.templates import without_control

from .creatives import CALLS_TO_ACTION, MAX_HEADLINE, image_of, pending

Complete = Callable[[str, int], str]
"""Continues a prompt by at most so many tokens."""

_TOKENS_PER_HEADLINE = 24
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])?\s*")
_PROMPT = """Write {count} advertising headlines of at most {longest} characters, one per line.
Product: {title}
Category: {category}
Description: {text}
Headlines:
"""


class LanguageModelGenerator:
    """Asks a language model for headlines; ``complete`` is how it is asked."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def generate(self, ad: Ad, count: int) -> tuple[Creative, ...]:
        """Return up to ``count`` creatives, all ``generated`` and ``pending``."""
        prompt = _PROMPT.format(
            count=count, longest=MAX_HEADLINE, title=ad.title, category=ad.category, text=ad.text[:500]
        )
        answer = self._complete(prompt, _TOKENS_PER_HEADLINE * count)
        return read_headlines(answer, count, image_of(ad))


def read_headlines(answer: str, count: int, image_url: str = "") -> tuple[Creative, ...]:
    """Return the first ``count`` usable lines of a model's answer as pending creatives with an image."""
    lines = (_LIST_MARK.sub("", without_control(line)).strip(" \t\"'") for line in answer.splitlines())
    usable = dict.fromkeys(line for line in lines if 3 <= len(line) <= MAX_HEADLINE)
    return tuple(pending(line, CALLS_TO_ACTION[0], image_url) for line in list(usable)[:count])


def local_model(folder: Path) -> Complete:
    """Return how to ask a text-generation model in a folder of the local disk; nothing is downloaded.

    Raises
    ------
    SettingError
        where transformers is not installed, or the folder holds no such model.

    """
    if not (folder / "config.json").is_file():
        raise _unusable(folder, "no config.json there")
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
    except ImportError as error:
        raise SettingError.expected(
            "generator of creatives with a language model",
            got="no package transformers",
            expected="the extra `creatives`",
            fix="pip install impulse[creatives], or use the template generator",
        ) from error
    try:
        network = AutoModelForCausalLM.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        write = pipeline("text-generation", model=network, tokenizer=tokenizer)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise _unusable(folder, str(error)[:200]) from error

    def complete(prompt: str, tokens: int) -> str:
        answer = write(prompt, do_sample=False, max_new_tokens=tokens, return_full_text=False)
        return str(answer[0]["generated_text"])

    return complete


def _unusable(folder: Path, why: str) -> ImpulseError:
    return SettingError.expected(
        f"generator {folder}", got=why, expected="template, or the folder of a causal language model",
        fix="save one with save_pretrained, its tokenizer beside it",
    )  # fmt: skip
