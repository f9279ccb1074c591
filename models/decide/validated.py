"""Which ads of a control record may enter the catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from models.domain.catalogue import Ad
from models.domain.errors import BadRecord
from models.policy.targeting import compile_expression

_NAMED = 5


def split_valid(ads: Iterable[Ad]) -> tuple[tuple[Ad, ...], BadRecord | None]:
    """Return the ads that can be used, and one error that names those that cannot."""
    good: list[Ad] = []
    problems: list[str] = []
    for ad in ads:
        try:
            compile_expression(ad.targeting)
            good.append(ad)
        except BadRecord as error:
            problems.append(f"{ad.ad_id}: {error}")
    if not problems:
        return tuple(good), None
    more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
    return tuple(good), BadRecord("bad_ad", "; ".join(problems[:_NAMED]) + more)
