"""Files of ads: one ad as JSON per line; what is none is named by file and line."""

from __future__ import annotations

import pytest

from connectors.ad_files import read_ads, write_lines
from models.domain.catalogue import Ad
from models.domain.errors import LogError


def test_ads_are_read_back_as_they_were_written(tmp_path):
    ads = [Ad(ad_id="a", campaign_id="c"), Ad(ad_id="b", campaign_id="c", title="Schuhe")]
    write_lines(tmp_path / "ads.jsonl", ads)
    assert list(read_ads(tmp_path / "ads.jsonl")) == ads


@pytest.mark.parametrize("line", ["{", "[]", '{"ad_id":"a"}', '{"x":' * 50_000])
def test_a_line_that_is_no_ad_is_named_by_file_and_line(tmp_path, line):
    write_lines(tmp_path / "ads.jsonl", [Ad(ad_id="a", campaign_id="c")])
    with (tmp_path / "ads.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(LogError, match=r"ads\.jsonl line 3: got .*expected an ad as JSON"):
        list(read_ads(tmp_path / "ads.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"ad_id": "a", "campaign_id": "c", "bid_micro": 5}',
            "line 1: field of an ad: got .*bid_micro.*bid_micros",
        ),
        ('{"ad_id": "a", "campaign_id": "c", "colour": "red"}', "got .*colour.*Fix: drop it"),
        (
            '{"ad_id": "a", "campaign_id": "c", "creatives": [{"creative_id": "x", "headlin": "y"}]}',
            "field of a creative: got .*headlin.*Fix: name it headline",
        ),
    ],
)
def test_a_field_that_ads_have_not_is_refused_with_the_name_that_was_meant(tmp_path, line, message):
    (tmp_path / "ads.jsonl").write_text(line)
    with pytest.raises(LogError, match=message):
        list(read_ads(tmp_path / "ads.jsonl"))
