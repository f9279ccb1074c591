"""The plain functions behind `impulse creatives` and `impulse review`: files of ads in, files of ads out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from connectors.ad_files import read_ads, write_lines
from models.domain.catalogue import Ad, Creative, review_of
from models.domain.errors import LogError, SettingError
from models.domain.templates import presented
from models.policy.creative_llm import LanguageModelGenerator, local_model
from models.policy.creatives import CreativeGenerator, TemplateGenerator, with_generated
from models.policy.validation import check_ad

TEMPLATES = "template"
ALL = "all"
Verdict = Literal["approved", "rejected"]


def generator_of(name: str) -> CreativeGenerator:
    """Return the generator that a name means: ``template``, or the folder of a local language model.

    Raises
    ------
    SettingError
        where it is neither, the extra `creatives` is missing, or the folder holds no such model.

    """
    return TemplateGenerator() if name == TEMPLATES else LanguageModelGenerator(local_model(Path(name)))


def add_creatives(ads: Path, out: Path, generator: CreativeGenerator, count: int) -> dict[str, Any]:
    """Write the ads with up to ``count`` generated creatives each, pending; return how many there are now.

    Raises
    ------
    LogError
        where the file holds no ads, or cannot be read or written.
    BadRecord
        where the log would refuse an ad.

    """
    before = _checked(ads)
    after = [
        msgspec.structs.replace(ad, creatives=with_generated(ad, generator, count=count)) for ad in before
    ]
    for ad in after:
        check_ad(ad)
    write_lines(out, after)
    return {
        "ads": len(after),
        "ads_grown": sum(new != old for old, new in zip(before, after, strict=True)),
        "generated": _generated(after) - _generated(before),
        "pending": len(list(_pending(after))),
    }


def waiting(ads: Path) -> list[dict[str, Any]]:
    """Return the creatives that wait for a review, as they would be shown, with the keys that name them."""
    return [
        {"key": key_of(ad, creative), **_shown(presented(ad, creative))}
        for ad, creative in _pending(_checked(ads))
    ]


def review(ads: Path, out: Path, approve: Sequence[str] = (), reject: Sequence[str] = ()) -> dict[str, Any]:
    """Write the ads with the reviews of the creatives that are named set; return how many were.

    Parameters
    ----------
    approve, reject
        Keys (`key_of`), or ``all`` for every pending creative that is not named.

    Raises
    ------
    SettingError
        for a key that names no creative of the file, or one that is approved and rejected.
    LogError, BadRecord
        see `add_creatives`.

    """
    known = _checked(ads)
    _refuse_unknown(known, {*approve, *reject} - {ALL})
    if both := sorted({*approve} & {*reject}):
        raise SettingError.expected(
            "review", got=f"{both[0]} approved and rejected", expected="one of them", fix="name it once"
        )
    verdicts: dict[str, Verdict] = {**dict.fromkeys(approve, "approved"), **dict.fromkeys(reject, "rejected")}
    after = [_reviewed(ad, verdicts) for ad in known]
    write_lines(out, after)
    pairs = [
        (old, new)
        for one, other in zip(known, after, strict=True)
        for old, new in zip(one.creatives, other.creatives, strict=True)
    ]
    changed = [review_of(new) for old, new in pairs if review_of(new) != review_of(old)]
    return {
        "ads": len(after), "approved": changed.count("approved"), "rejected": changed.count("rejected"),
        "pending": len(list(_pending(after))),
    }  # fmt: skip


def key_of(ad: Ad, creative: Creative) -> str:
    """Return what names a creative on the command line: ``AD_ID/CREATIVE_ID``."""
    return f"{ad.ad_id}/{creative.creative_id}"


def _checked(file: Path) -> list[Ad]:
    ads = list(read_ads(file))
    if not ads:
        raise LogError.expected(
            f"file {file}", got="no ads", expected="an ad as JSON per line", fix="name a file of ads"
        )
    for ad in ads:
        check_ad(ad)
    return ads


def _generated(ads: Sequence[Ad]) -> int:
    return sum(creative.generated for ad in ads for creative in ad.creatives)


def _pending(ads: Sequence[Ad]) -> Iterator[tuple[Ad, Creative]]:
    return ((ad, creative) for ad in ads for creative in ad.creatives if review_of(creative) == "pending")


def _shown(creative: Creative) -> dict[str, Any]:
    return {
        "headline": creative.headline, "call_to_action": creative.call_to_action,
        "image_url": creative.image_url, "generated": creative.generated,
    }  # fmt: skip


def _refuse_unknown(ads: Sequence[Ad], named: set[str]) -> None:
    if unknown := sorted(named - {key_of(ad, creative) for ad in ads for creative in ad.creatives}):
        raise SettingError.expected(
            "review", got=unknown[0], expected="AD_ID/CREATIVE_ID of a creative of the file, or all",
            fix="list them: impulse review --ads FILE",
        )  # fmt: skip


def _reviewed(ad: Ad, verdicts: dict[str, Verdict]) -> Ad:
    creatives = tuple(_judged(creative, key_of(ad, creative), verdicts) for creative in ad.creatives)
    return ad if creatives == ad.creatives else msgspec.structs.replace(ad, creatives=creatives)


def _judged(creative: Creative, key: str, verdicts: dict[str, Verdict]) -> Creative:
    verdict = verdicts.get(key) or (verdicts.get(ALL) if review_of(creative) == "pending" else None)
    return msgspec.structs.replace(creative, review=verdict) if verdict else creative
