"""What is erased is gone, and not merely out of reach."""

import pytest
from support.shards import run

from models.domain import events
from models.domain.ids import key64


@pytest.mark.parametrize("kind", [events.View, events.Hide, events.Impression])
def test_nothing_of_an_erased_user_is_left_in_the_snapshot(bench, log, kind):
    log.ads()
    decision = log.request()
    log.add(kind, user_id="u", ad_id="a0", decision_id=decision)
    shard, ad = bench.shard(), key64("a0").to_bytes(8, "little")
    run(shard, log.records)
    assert ad in shard.dump()
    log.add(events.Erasure, user_id="u")
    run(shard, log.records[-1:])
    assert ad not in shard.dump()
