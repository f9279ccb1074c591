"""Equal changes give equal versions, whichever way their ads came."""

import pickle

import msgspec

from models.domain.catalogue import Ad, Catalogue, Creative

ADS = msgspec.json.decode(
    b'[{"ad_id":"a","campaign_id":"c","creatives":[{"creative_id":"x"}]},{"ad_id":"b","campaign_id":"c"}]',
    type=tuple[Ad, ...],
)


def test_ads_from_another_process_give_the_version_that_they_give_here():
    elsewhere = pickle.loads(pickle.dumps(ADS))
    assert elsewhere == ADS
    assert Catalogue().upsert(elsewhere).version == Catalogue().upsert(ADS).version
    assert Catalogue().replaced(elsewhere).version == Catalogue().replaced(ADS).version


def test_a_default_that_is_spelled_out_gives_the_version_of_one_left_out():
    spelled = (Ad(ad_id="b", campaign_id="c", quality=float("1.0"), bid_micros=int("1000000")),)
    assert Catalogue().upsert(spelled).version == Catalogue().upsert(ADS[1:]).version


def test_a_changed_creative_gives_another_version():
    creative = Creative(creative_id="x", headline="new")
    changed = msgspec.structs.replace(ADS[0], creatives=(creative,))
    assert Catalogue().upsert([changed]).version != Catalogue().upsert(ADS[:1]).version
    assert Catalogue().replaced([changed]).version != Catalogue().upsert([changed]).version
