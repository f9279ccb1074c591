"""The plain function behind `impulse embed`: images to the vectors of catalogue records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from connectors.ad_files import read_ads, write_lines
from models.domain.errors import BadRecord, LogError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def embed_images(images: Path, encoder: Path, out: Path, ads: Path | None = None) -> dict[str, Any]:
    """Write a line per ad whose image could be read; return how many were and were not.

    ``images`` holds one image per ad, named by its id. With ``ads`` (an `Ad` as JSON per line) all of them
    are written, those with an image with its vector; without it lines of ``ad_id`` and ``vector``.

    Raises
    ------
    LogError
        where there are no images, or a line is no ad.
    SettingError
        where the encoder cannot be opened.

    """
    from models.scorer.images import ImageEncoder

    files = {file.stem: file for file in sorted(images.glob("*")) if file.suffix.lower() in SUFFIXES}
    if not files:
        raise LogError.expected(
            f"images of {images}", got="none", expected=f"files ending with {', '.join(SUFFIXES)}",
            fix="name each image AD_ID.jpg",
        )  # fmt: skip
    opened = ImageEncoder.open(encoder)
    records = list(read_ads(ads)) if ads is not None else []
    wanted = {ad.ad_id for ad in records} if ads is not None else set(files)
    vectors, unreadable = {}, 0
    for ad_id in sorted(wanted & set(files)):
        try:
            vectors[ad_id] = tuple(map(float, opened.encode([files[ad_id]])[0]))
        except BadRecord:
            unreadable += 1
    written = (
        [msgspec.structs.replace(ad, vector=vectors.get(ad.ad_id, ad.vector)) for ad in records]
        if ads is not None
        else [{"ad_id": ad_id, "vector": vector} for ad_id, vector in vectors.items()]
    )
    write_lines(out, written)
    return {
        "images": len(files), "embedded": len(vectors), "unreadable": unreadable, "lines": len(written),
        "width": opened.width,
    }  # fmt: skip
