"""Where new creatives come from; `models.decide.creatives` chooses among those that may be shown.

Generated creatives are labelled ``generated`` and wait with review ``pending``: nothing shows them until
somebody sends the ad again with the review ``approved``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from models.domain.catalogue import MAX_CREATIVES, Ad, Creative
from models.domain.ids import content_hash
from models.domain.templates import CONTROL, escape, without_control

MAX_HEADLINE = 60
MAX_CALL_TO_ACTION = 24


class CreativeGenerator(Protocol):
    """Writes creatives for an ad from what the catalogue says of it."""

    def generate(self, ad: Ad, count: int) -> tuple[Creative, ...]:
        """Return up to ``count`` creatives, all ``generated`` and ``pending``."""
        ...


HEADLINES = ("{title}", "{title} – {text}", "{category}: {title}", "New: {title}", "Discover {title}")
CALLS_TO_ACTION = ("Learn more", "See {category}", "Get yours", "Find out more", "Shop now")


class TemplateGenerator:
    """Fills the slots ``{title}``, ``{text}`` and ``{category}`` of templates from the ad.

    An ad without a title has the first sentence of its text for one. Templates whose slots the ad leaves
    empty are passed over, results that are too long are cut at a word, and doubles are dropped. Ids are
    hashes of the content, so generating twice adds nothing.
    """

    def __init__(
        self, headlines: Sequence[str] = HEADLINES, calls_to_action: Sequence[str] = CALLS_TO_ACTION
    ) -> None:
        self._headlines = tuple(headlines)
        self._calls = tuple(calls_to_action)

    def generate(self, ad: Ad, count: int) -> tuple[Creative, ...]:
        """Return up to ``count`` creatives, all ``generated`` and ``pending``."""
        title, text, category = map(without_control, (ad.title, ad.text, ad.category))
        title, text = title.strip(), _first_sentence(text)
        slots = {"title": title or text, "text": text if title else "", "category": category.strip()}
        headlines = [filled for t in self._headlines if (filled := _fill(t, slots, MAX_HEADLINE))]
        calls = [filled for t in self._calls if (filled := _fill(t, slots, MAX_CALL_TO_ACTION))]
        image = image_of(ad)
        texts = dict.fromkeys((h, calls[n % len(calls)] if calls else "") for n, h in enumerate(headlines))
        return tuple(pending(headline, call, image) for headline, call in list(texts)[:count])


def image_of(ad: Ad) -> str:
    """Return the first image of an ad's creatives, "" for none."""
    return next((creative.image_url for creative in ad.creatives if creative.image_url), "")


def pending(headline: str, call_to_action: str, image_url: str = "") -> Creative:
    """Return a generated creative that waits for its review; equal content has an equal id.

    The texts are what will be shown: braces in them are no slots. ``image_url`` is taken as a template.
    """
    content = "\x1f".join((headline, call_to_action, image_url)).encode()
    return Creative(
        creative_id=f"gen-{content_hash(content)[:16]}",
        headline=escape(headline),
        image_url=image_url,
        call_to_action=escape(call_to_action),
        generated=True,
        review="pending",
    )


def with_generated(ad: Ad, generator: CreativeGenerator, count: int = 3) -> tuple[Creative, ...]:
    """Return the ad's creatives and the generated ones that it does not hold yet.

    An ad without creatives is shown as it stands; so that pending ones do not hide it, it keeps that
    presentation as an approved creative named ``original``. No ad gets more than `MAX_CREATIVES`.
    """
    title = "{title}" if ad.title.strip() and not CONTROL.search(ad.title) else ""
    own = ad.creatives or (Creative(creative_id="original", headline=title),)
    known = {creative.creative_id for creative in own}
    new = [creative for creative in generator.generate(ad, count) if creative.creative_id not in known]
    return (*own, *new)[: max(len(own), MAX_CREATIVES)] if new else ad.creatives


def _first_sentence(text: str) -> str:
    return text.strip().split(". ")[0].rstrip(".")


def _fill(template: str, slots: Mapping[str, str], longest: int) -> str:
    """Return the template with its slots filled; empty if a slot has no text."""
    if any(not text and f"{{{name}}}" in template for name, text in slots.items()):
        return ""
    filled = template
    for name, text in slots.items():
        filled = filled.replace(f"{{{name}}}", text)
    return _cut(" ".join(filled.split()), longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = text[: longest - 1]
    return f"{head.rsplit(' ', 1)[0] if ' ' in head else head}…"
