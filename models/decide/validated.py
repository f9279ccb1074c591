"""Which ads and policies of control records may be put in force."""

from __future__ import annotations

from collections.abc import Iterable

from models.domain.catalogue import Ad
from models.domain.errors import BadRecord, SettingError
from models.domain.policy import Policy
from models.policy.validation import check_policy, usable_ads

_NAMED = 5


def split_valid(ads: Iterable[Ad]) -> tuple[tuple[Ad, ...], BadRecord | None]:
    """Return the ads that can be used, and one error that names those that cannot."""
    good, refused = usable_ads(ads)
    problems = [f"{ad_id}: {error}" for ad_id, error in refused]
    if not problems:
        return good, None
    more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
    return good, BadRecord("bad_ad", "; ".join(problems[:_NAMED]) + more)


def valid_policy(policy: Policy) -> Policy:
    """Return a policy that can be carried out.

    Raises
    ------
    BadRecord
        reason ``bad_policy``, naming the field and the fix.

    """
    try:
        check_policy(policy)
    except SettingError as error:
        raise BadRecord("bad_policy", str(error)) from error
    return policy
