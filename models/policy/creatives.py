"""Dynamic creatives: which of an ad's creatives a user sees, and where new ones come from.

An ad's approved creatives are learned like ads: each may have a weight (mean, variance in logits) under
the key `creative_key`, and a Thompson draw picks the largest ``mean + nu * sqrt(variance) * z``. Creatives
without a weight count with the prior; while none has one, decisions take turns by the hash of their seed.
Draws are functions of (seed, creative) alone, so a replay makes the same ones.

Generated creatives are labelled ``generated`` and wait with review ``pending``: nothing shows them until
somebody sends the ad again with the review ``approved``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Protocol

from models.domain.catalogue import Ad, Creative
from models.domain.events import Weight
from models.domain.ids import content_hash, key64

PRIOR: Weight = (0.0, 0.25)
"""Mean and variance of a creative that nothing is known of, relative to its ad."""

MAX_HEADLINE = 60
MAX_CALL_TO_ACTION = 24

_NORMAL = NormalDist()


def creative_key(ad_id: str, creative_id: str) -> str:
    """Return the key of a creative's weight."""
    return f"{ad_id}|{creative_id}"


def approved(ad: Ad) -> tuple[Creative, ...]:
    """Return the creatives that may be shown."""
    return tuple(creative for creative in ad.creatives if creative.review == "approved")


def choose_creative(ad: Ad, weights: Mapping[str, Weight], nu: float, seed: int) -> Creative | None:
    """Return the creative that this decision shows of an ad; None for an ad without approved ones.

    Parameters
    ----------
    ad
        The ad.
    weights
        Learned weights by `creative_key`.
    nu
        Scale of the Thompson draw; 0 takes the largest mean.
    seed
        key64 of the decision's id.

    """
    choices = approved(ad)
    if len(choices) <= 1:
        return choices[0] if choices else None
    keys = [creative_key(ad.ad_id, creative.creative_id) for creative in choices]
    if not any(key in weights for key in keys):
        return choices[_bits(seed, ad.ad_id) % len(choices)]
    draws = [_draw(weights.get(key, PRIOR), nu, seed, key) for key in keys]
    return choices[draws.index(max(draws))]


def _draw(weight: Weight, nu: float, seed: int, key: str) -> float:
    mean, variance = weight
    return mean + nu * math.sqrt(max(variance, 0.0)) * _normal(seed, key)


def _bits(seed: int, key: str) -> int:
    return key64(f"{seed}|{key}")


def _normal(seed: int, key: str) -> float:
    """Return a standard normal draw that depends on the seed and the key alone."""
    return _NORMAL.inv_cdf(((_bits(seed, key) >> 11) + 0.5) * 2.0**-53)


class CreativeGenerator(Protocol):
    """Writes creatives for an ad from what the catalogue says of it."""

    def generate(self, ad: Ad, count: int) -> tuple[Creative, ...]:
        """Return up to ``count`` creatives, all ``generated`` and ``pending``."""
        ...


HEADLINES = ("{title}", "{title} – {text}", "{category}: {title}", "New: {title}", "Discover {title}")
CALLS_TO_ACTION = ("Learn more", "See {category}", "Get yours", "Find out more", "Shop now")


class TemplateGenerator:
    """Fills the slots ``{title}``, ``{text}`` and ``{category}`` of templates from the ad.

    Templates whose slots the ad leaves empty are passed over, results that are too long are cut at a
    word, and doubles are dropped. Ids are hashes of the content, so generating twice adds nothing.
    """

    def __init__(
        self, headlines: Sequence[str] = HEADLINES, calls_to_action: Sequence[str] = CALLS_TO_ACTION
    ) -> None:
        self._headlines = tuple(headlines)
        self._calls = tuple(calls_to_action)

    def generate(self, ad: Ad, count: int) -> tuple[Creative, ...]:
        """Return up to ``count`` creatives, all ``generated`` and ``pending``."""
        slots = {"title": ad.title.strip(), "text": _first_sentence(ad.text), "category": ad.category.strip()}
        headlines = [filled for t in self._headlines if (filled := _fill(t, slots, MAX_HEADLINE))]
        calls = [filled for t in self._calls if (filled := _fill(t, slots, MAX_CALL_TO_ACTION))]
        image = next((creative.image_url for creative in ad.creatives if creative.image_url), "")
        texts = dict.fromkeys((h, calls[n % len(calls)] if calls else "") for n, h in enumerate(headlines))
        return tuple(pending(headline, call, image) for headline, call in list(texts)[:count])


def pending(headline: str, call_to_action: str, image_url: str = "") -> Creative:
    """Return a generated creative that waits for its review; equal content has an equal id."""
    content = "\x1f".join((headline, call_to_action, image_url)).encode()
    return Creative(
        creative_id=f"gen-{content_hash(content)[:16]}",
        headline=headline,
        image_url=image_url,
        call_to_action=call_to_action,
        generated=True,
        review="pending",
    )


def with_generated(ad: Ad, generator: CreativeGenerator, count: int = 3) -> tuple[Creative, ...]:
    """Return the ad's creatives and the generated ones that it does not hold yet.

    An ad without creatives is shown as it stands; so that pending ones do not hide it, it keeps that
    presentation as an approved creative named ``original``.
    """
    own = ad.creatives or (Creative(creative_id="original", headline=ad.title),)
    known = {creative.creative_id for creative in own}
    new = [creative for creative in generator.generate(ad, count) if creative.creative_id not in known]
    return (*own, *new)


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
