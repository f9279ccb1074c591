"""Texts of creatives as templates: ``{title}`` stands for the ad's title, ``{{`` and ``}}`` for braces.

A creative's headline, call to action and image URL may hold the slots of `SLOTS`; each is a field of the
creative's own ad. In a URL what is filled in is percent-encoded. Filling is one pass, so braces in an
ad's text are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import msgspec

from .catalogue import Ad, Creative

SLOTS = ("title", "text", "category", "advertiser_id", "ad_id")
"""Fields of the ad that a template may name."""

TEMPLATES = {"headline": 4096, "image_url": 4096, "call_to_action": 128}
"""Fields of a creative that may hold slots, and how long each may be once they are filled."""

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Characters that no text shows and JSON writes as six bytes each: decisions of them pass the megabyte that
topics take, so creatives hold none once they are filled."""

_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


def presented(ad: Ad, creative: Creative) -> Creative:
    """Return a creative with its slots filled from its ad.

    What is no slot stays as it is, so this never fails; `slot_problem` is what refuses it beforehand.
    """
    changed = {
        name: fill(text, ad, url=name == "image_url")
        for name in TEMPLATES
        if _has_braces(text := getattr(creative, name))
    }
    return msgspec.structs.replace(creative, **changed) if changed else creative


def fill(template: str, ad: Ad, *, url: bool = False) -> str:
    """Return a template with its slots filled from an ad; with ``url``, percent-encoded."""
    return _TOKEN.sub(_filler(ad, partial(quote, safe="", errors="replace") if url else str), template)


def escape(text: str) -> str:
    """Return the template that fills to exactly this text."""
    return text.replace("{", "{{").replace("}", "}}")


def without_control(text: str) -> str:
    """Return a text with blanks for its control characters."""
    return CONTROL.sub(" ", text)


def slot_problem(ad: Ad, creative: Creative) -> str:
    """Return what is wrong with the slots of a creative, "" for nothing."""
    for name, longest in TEMPLATES.items():
        text: str = getattr(creative, name)
        if not _has_braces(text):
            continue
        for token in _TOKEN.findall(text):
            if problem := _token_problem(ad, token):
                return f"{problem} in its {name}"
        if len(filled := fill(text, ad, url=name == "image_url")) > longest:
            return f"{len(filled)} characters in its {name} once filled, above {longest}"
    return ""


def _has_braces(text: str) -> bool:
    return "{" in text or "}" in text


def _filler(ad: Ad, encoded: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    def filled(found: re.Match[str]) -> str:
        token = found[0]
        if token in ("{{", "}}"):
            return token[0]
        return encoded(getattr(ad, token[1:-1])) if token[1:-1] in SLOTS else token

    return filled


def _token_problem(ad: Ad, token: str) -> str:
    if token in ("{{", "}}"):
        return ""
    if token[1:-1] not in SLOTS:
        return f"unknown slot {token[:40]}"
    return "" if getattr(ad, token[1:-1]).strip() else f"slot {token}, which its ad leaves empty,"
