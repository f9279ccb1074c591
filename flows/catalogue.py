"""The plain functions behind `impulse ads`: from a file of ads to control records in every partition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from connectors.ad_files import read_ads
from connectors.artifacts import ArtifactStore
from connectors.broadcast import fitting, upserts
from models.domain.catalogue import Ad
from models.domain.errors import LogError, SettingError
from models.domain.events import AdWithdraw, CatalogueSnapshot, Control
from models.domain.ids import content_hash
from models.policy.validation import check_ad, check_budgets

WITHDRAWN_AT_ONCE = 10_000


def checked_ads(file: Path) -> list[Ad]:
    """Return the ads of a file, all of which the log takes.

    Raises
    ------
    LogError
        where the file cannot be read, holds no ad, or one twice.
    BadRecord
        where the log would refuse an ad, with the reason.

    """
    ads = list(read_ads(file))
    ids = {ad.ad_id for ad in ads}
    if len(ids) != len(ads) or not ads:
        raise LogError.expected(
            f"ads of {file}", got=f"{len(ads)} lines, {len(ids)} ids",
            expected="one line per ad, at least one", fix="write each ad once",
        )  # fmt: skip
    for ad in ads:
        check_ad(ad)
    check_budgets(ads)
    return ads


def records_of(
    ads: Sequence[Ad], withdrawn: Sequence[str], replace_in: Path | None, now_ms: int
) -> list[Control]:
    """Return the control records that bring ``ads`` and stop ``withdrawn``.

    With ``replace_in``, the folder of artifacts, the ads are stored there and become the whole catalogue.

    Raises
    ------
    SettingError
        where there is nothing to send, or ads are withdrawn from a catalogue that is replaced.
    LogError
        naming an ad that is too large for a record.

    """
    replaces = replace_in is not None
    if not (ads or withdrawn) or (replaces and (withdrawn or not ads)):
        raise SettingError.expected(
            "ads to send", got=f"{len(ads)} ads, {len(withdrawn)} to withdraw, replace: {replaces}",
            expected="a file of ads, or ads to withdraw; --replace with a file alone",
            fix="name a file, or use --withdraw AD_ID",
        )  # fmt: skip
    content = msgspec.json.encode(tuple(ads))
    if replace_in is not None:
        artifact = ArtifactStore(replace_in).put(content)
        return [CatalogueSnapshot(id=f"catalogue-{artifact}-{now_ms}", event_time=now_ms, artifact=artifact)]
    records: list[Control] = list(upserts(ads, f"ads-{content_hash(content)}-{now_ms}", now_ms))
    for part in fitting(withdrawn, WITHDRAWN_AT_ONCE):
        record_id = f"withdrawn-{content_hash(msgspec.json.encode(part))}-{now_ms}"
        records.append(AdWithdraw(id=record_id, event_time=now_ms, ad_ids=part))
    return records
