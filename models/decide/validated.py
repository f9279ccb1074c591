"""Which ads of a control record may enter the catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from models.domain.catalogue import Ad
from models.domain.errors import BadRecord
from models.policy.validation import usable_ads

_NAMED = 5


def split_valid(ads: Iterable[Ad]) -> tuple[tuple[Ad, ...], BadRecord | None]:
    """Return the ads that can be used, and one error that names those that cannot."""
    good, refused = usable_ads(ads)
    problems = [f"{ad_id}: {error}" for ad_id, error in refused]
    if not problems:
        return good, None
    more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
    return good, BadRecord("bad_ad", "; ".join(problems[:_NAMED]) + more)
