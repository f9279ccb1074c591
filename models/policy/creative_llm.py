"""Creatives written by a local language model; off by default, and needs the package transformers.

The text is a suggestion like any other generated creative: labelled, pending, and shown to nobody
before its review. Decoding is greedy, so the same model writes the same text.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from models.domain.catalogue import Ad, Creative
from models.domain.errors import SettingError

from .creatives import CALLS_TO_ACTION, MAX_HEADLINE, pending

Complete = Callable[[str, int], str]
"""Continues a prompt by at most so many tokens."""

_TOKENS_PER_HEADLINE = 24
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
        return read_headlines(self._complete(prompt, _TOKENS_PER_HEADLINE * count), count)


def read_headlines(answer: str, count: int) -> tuple[Creative, ...]:
    """Return the first ``count`` usable lines of a model's answer as pending creatives."""
    lines = (line.strip(" -*•\t0123456789.\"'") for line in answer.splitlines())
    usable = dict.fromkeys(line for line in lines if 3 <= len(line) <= MAX_HEADLINE)
    return tuple(pending(line, CALLS_TO_ACTION[0]) for line in list(usable)[:count])


def local_model(path: str) -> Complete:
    """Return how to ask a text-generation model in a folder of the local disk.

    Raises
    ------
    SettingError
        when transformers is not installed.

    """
    try:
        transformers = import_module("transformers")
    except ModuleNotFoundError as error:
        raise SettingError.expected(
            "generator of creatives with a language model",
            got=f"no module {error.name}",
            expected="the package transformers",
            fix="install the extra `content`, or use the template generator",
        ) from error
    write = transformers.pipeline("text-generation", model=path, model_kwargs={"local_files_only": True})

    def complete(prompt: str, tokens: int) -> str:
        answer = write(prompt, do_sample=False, max_new_tokens=tokens, return_full_text=False)
        return str(answer[0]["generated_text"])

    return complete
