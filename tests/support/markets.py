"""Logs of a few ads that compete for one user, and what a decision looks like from within."""

from __future__ import annotations

from support.shards import Bench, LogBuilder, bodies, run

from models.decide.asked import Asked, WatchedDecider
from models.decide.explain import fate_of
from models.decide.shard import Place, Shard, ShardBounds
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy

GREEDY = Exploration(thompson_nu=0.0, randomized_share=0.0)


def watched(records, look, recorded=None):
    """Run a log with every decision looked at; return the decisions."""
    bench = Bench()

    def watch(view, profiles, job):
        look(Asked.of(bench.views.compiled(view), profiles, job))

    decider = WatchedDecider(bench.views, watch, recorded)
    shard = Shard(Place("ads.events.v1", 0, 0), bench.views, decider, ShardBounds())
    return bodies(run(shard, records), Decision)


def fate(log, ad_id):
    found = []
    watched(log.records, lambda asked: found.append(fate_of(asked, ad_id)))
    return found[-1]


def market(*ads, **policy):
    log = LogBuilder()
    log.add(events.PolicyChange, policy=Policy(**{"exploration": GREEDY, **policy}))
    log.add(events.AdUpsert, ads=ads)
    return log


def ad(name="a", **fields):
    return Ad(**{"ad_id": name, "campaign_id": f"c-{name}", "bid_type": "cpm", "bid_micros": 1000, **fields})


def rivals(count, bid_micros=2000):
    return [ad(f"r{n}", bid_micros=bid_micros + n) for n in range(count)]
