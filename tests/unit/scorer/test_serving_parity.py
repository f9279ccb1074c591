"""The torch network and the serving kernels agree, event by event.

Stated tolerance: 2e-5 absolute on vectors (RMS 1) and 1e-4 on logits, fp32 against fp32.
"""

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue
from models.domain.ids import key64, label_key
from models.scorer.config import ModelConfig
from models.scorer.dwell import DwellHead
from models.scorer.features import category_rows, event_rows, vocabulary_rows, wait_rows
from models.scorer.interface import HistoryTable
from models.scorer.serving import TransformerScorer
from models.scorer.transformer import Ads, Events, Transformer

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
VECTOR_TOLERANCE = 2e-5
LOGIT_TOLERANCE = 1e-4
CATEGORIES = ("", "shoes", "books")
ADS = tuple(Ad(ad_id=f"ad-{i}", campaign_id="c", category=CATEGORIES[i % 3]) for i in range(40))
"""The first 30 are in the model's vocabulary."""

SMALL = ModelConfig(
    vocabulary=30, d_model=32, window=6, rotary_length=16, head_width=24, categories=8, dropout=0.0
)
WITH_WAIT = replace(SMALL, use_wait=True)
CONFIGS = {
    "small": SMALL,
    "padded widths": ModelConfig(
        vocabulary=30, d_model=20, heads=2, blocks=1, window=5, rotary_length=32, head_width=10
    ),
    "one wide head, three blocks": ModelConfig(
        vocabulary=30, d_model=16, heads=1, blocks=3, window=4, rotary_length=8, ffn_multiple=2
    ),
    "ids alone": ModelConfig(
        vocabulary=30, d_model=16, window=7, rotary_length=16,
        use_category=False, use_kind=False, use_dwell=False, use_gap=False,
    ),
    "content": ModelConfig(vocabulary=30, d_model=16, window=4, rotary_length=16, content_dim=5),
    "of a log": ModelConfig(vocabulary=30, d_model=16, window=4, rotary_length=16, slots=3),
    "told when asked": ModelConfig(
        vocabulary=30, d_model=20, window=4, rotary_length=16, slots=3, gap_buckets=9, use_wait=True
    ),
}  # fmt: skip


def content_of(ads):
    """Content vectors that depend on the ad's id."""
    rows = [np.random.default_rng(key64(ad.ad_id)).standard_normal(5) for ad in ads]
    return np.array(rows, np.float32).reshape(len(ads), 5)


def network(config, seed=0):
    """A network with random weights, sorted vocabulary keys, and its scorer's tensors."""
    torch.manual_seed(seed)
    net = Transformer(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer in net.buffers():
            if buffer.shape in ((config.vocabulary + 1,), (2,), ()):
                buffer.normal_()
    keys = np.sort(np.array([key64(ad.ad_id) for ad in ADS[: config.vocabulary]], np.uint64))
    tensors = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    return net, keys, {**tensors, "vocabulary_keys": keys}


def scorer_of(config, tensors, hot_users=4, dwell=None):
    content = content_of if config.content_dim else None
    return TransformerScorer(config, tensors, "test", content=content, dwell=dwell, hot_users=hot_users)


class Recorded:
    """A user's events, as the history table and as torch take them."""

    def __len__(self):
        return len(self.kind)

    def append_to(self, history, row, n):
        """Append event n to a row of a history table."""
        assert history.count[row] == n
        slot = n % history.ad_key.shape[1]
        for name in ("ad_key", "category_key", "kind", "dwell_ms", "time_ms"):
            getattr(history, name)[row, slot] = getattr(self, name)[n]
        history.count[row] += 1

    def asked(self, n):
        """The time of the request after event n, `[1]`; some are dated before it."""
        return self.time_ms[n : n + 1] + (0, 400, 20_000, -7_000, 3_600_000)[n % 5]

    def users(self, net, hidden):
        """The users' vectors `[T, D]` that torch makes of the hidden states for those requests."""
        asked = np.concatenate([self.asked(n) for n in range(len(self))])
        wait = wait_rows(asked, self.time_ms, net.config.gap_buckets)
        return net.asked(hidden, torch.from_numpy(wait))

    def events(self, config, keys):
        """The sequence as torch sees it, `[1, T]`."""
        buckets = (config.categories, config.dwell_buckets, config.gap_buckets)
        first = np.zeros(1, np.int64)
        category, dwell, gap = event_rows(
            self.category_key, self.dwell_ms.astype(np.int64), self.time_ms, first, *buckets
        )
        columns = (vocabulary_rows(keys, self.ad_key), category, self.kind.astype(np.int64), dwell, gap)
        return Events(*(torch.from_numpy(c)[None] for c in columns))


class RealSequence(Recorded):
    """A session of the OTTO log; carts and orders count as clicks and conversions."""

    def __init__(self, events):
        kinds = {"clicks": 2, "carts": 2, "orders": 7}
        self.ad_key = np.array([key64(str(e["aid"])) for e in events], np.uint64)
        self.category_key = np.zeros(len(events), np.uint64)
        self.kind = np.array([kinds[e["type"]] for e in events], np.uint8)
        self.dwell_ms = np.zeros(len(events), np.int32)
        self.time_ms = np.array([e["ts"] for e in events], np.int64)


class Sequence(Recorded):
    """A user's random events: real-like kinds, dwells, and times that may stand still or run backwards."""

    def __init__(self, seed, length):
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(ADS), length)
        self.ad_key = np.array([key64(ADS[i].ad_id) for i in chosen], np.uint64)
        self.category_key = np.array([label_key(ADS[i].category) for i in chosen], np.uint64)
        self.kind = rng.integers(0, 8, length).astype(np.uint8)
        self.dwell_ms = np.where(rng.random(length) < 0.5, rng.integers(0, 10**6, length), 0).astype(np.int32)
        steps = rng.choice([-500, 0, 10, 3_000, 100_000, 10**8], length)
        self.time_ms = 10**12 + np.cumsum(steps)


def torch_ads(config, keys, ads):
    ids = vocabulary_rows(keys, np.array([key64(ad.ad_id) for ad in ads], np.uint64))
    category = category_rows(np.array([label_key(ad.category) for ad in ads], np.uint64), config.categories)
    content = content_of(ads)[:, : config.content_dim]
    return Ads(torch.from_numpy(ids), torch.from_numpy(category), torch.from_numpy(content))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_users_vector_agrees_after_every_event_past_the_wraps_of_ring_and_rotary_table(name):
    config = CONFIGS[name]
    net, keys, tensors = network(config)
    scorer, sequence = scorer_of(config, tensors), Sequence(1, 3 * config.rotary_length + 40)
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    with torch.no_grad():
        users = sequence.users(net, net.hidden(sequence.events(config, keys))[0]).numpy()
    for n in range(len(sequence)):
        sequence.append_to(history, 0, n)
        got = scorer.encode(history, rows, sequence.asked(n))[0]
        np.testing.assert_allclose(got, users[n], atol=VECTOR_TOLERANCE, rtol=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_a_users_vector_agrees_on_any_sequence(seed, length):
    net, keys, tensors = network(WITH_WAIT)
    scorer, sequence = scorer_of(WITH_WAIT, tensors), Sequence(seed, length)
    history = HistoryTable.empty(1, scorer.history_length)
    with torch.no_grad():
        users = sequence.users(net, net.hidden(sequence.events(WITH_WAIT, keys))[0]).numpy()
    for n in range(length):
        sequence.append_to(history, 0, n)
    got = scorer.encode(history, np.zeros(1, np.int64), sequence.asked(length - 1))[0]
    np.testing.assert_allclose(got, users[-1], atol=VECTOR_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_ad_vectors_and_biases_agree_for_known_and_unknown_ads(name):
    config = CONFIGS[name]
    net, keys, tensors = network(config)
    index = scorer_of(config, tensors).index(Catalogue().upsert(ADS))
    ads = torch_ads(config, keys, ADS)
    with torch.no_grad():
        np.testing.assert_allclose(index.vectors, net.ad_vectors(ads).numpy(), atol=1e-5)
        np.testing.assert_allclose(index.bias, net.ad_bias(ads).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_expected_stays_agree_with_the_head_on_the_networks_inner_layer(name):
    config = CONFIGS[name]
    net, keys, tensors = network(config)
    draw = np.random.default_rng(0)
    head = DwellHead(
        draw.standard_normal(config.head_width).astype(np.float32),
        draw.standard_normal(config.vocabulary + 1).astype(np.float32),
        0.3,
    )
    scorer, sequence = scorer_of(config, tensors, dwell=head), Sequence(2, 20)
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    for n in range(20):
        sequence.append_to(history, 0, n)
    index = scorer.index(Catalogue().upsert(ADS))
    candidates = np.array([[3, 35, -1]], np.int32)
    users = scorer.encode(history, rows, sequence.asked(19))
    got = scorer.dwell_ms(history, rows, users, index, candidates)[0]
    ads = torch_ads(config, keys, [ADS[3], ADS[35]])
    with torch.no_grad():
        h = net.hidden(sequence.events(config, keys))
        u, h = sequence.users(net, h[0])[None, -1:], h[:, -config.window :]
        v = net.ad_vectors(ads)[None]
        seen = torch.ones(1, 2, h.shape[1], dtype=torch.bool)
        inner = net.inner(u.expand_as(v), v, net.target_attention(h, seen, v))[0]
    expected = np.exp(head.log_ms(inner.numpy(), ads.ad.numpy()) + head.smear)
    np.testing.assert_allclose(got[:2], expected, rtol=2e-4)
    assert got[2] == 0


def test_a_model_without_the_head_tells_no_stay():
    _, _, tensors = network(SMALL)
    scorer, rows = scorer_of(SMALL, tensors), np.zeros(1, np.int64)
    history, index = HistoryTable.empty(1, scorer.history_length), scorer.index(Catalogue().upsert(ADS))
    users = scorer.encode(history, rows, rows * 0)
    assert scorer.dwell_ms(history, rows, users, index, np.zeros((1, 1), np.int32)) is None


@pytest.mark.parametrize("length", [0, 1, 3, 20, 100])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_candidates_agree(name, length):
    config = CONFIGS[name]
    net, keys, tensors = network(config)
    scorer, sequence = scorer_of(config, tensors), Sequence(2, length)
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    for n in range(length):
        sequence.append_to(history, 0, n)
    index = scorer.index(Catalogue().upsert(ADS))
    candidates = np.arange(len(ADS), dtype=np.int32)[None, ::-1].copy()
    users = scorer.encode(history, rows, sequence.asked(length - 1) if length else rows)
    click, conversion = scorer.rank(history, rows, users, index, candidates)
    expected = torch_logits(net, config, keys, sequence)[::-1]
    np.testing.assert_allclose(click[0], expected[:, 0], atol=LOGIT_TOLERANCE, rtol=0)
    np.testing.assert_allclose(conversion[0], expected[:, 1], atol=LOGIT_TOLERANCE, rtol=0)


def torch_logits(net, config, keys, sequence):
    """Logits `[A, 2]` of all ads after the whole sequence, by the network."""
    width = config.window
    with torch.no_grad():
        hidden = torch.zeros(1, width, config.d_model)
        u, seen = net.start[None], min(len(sequence), width)
        if seen:
            whole = net.hidden(sequence.events(config, keys))
            u, hidden[:, width - seen :] = sequence.users(net, whole[0])[None, -1], whole[:, -seen:]
        mask = (torch.arange(width) >= width - seen)[None]
        ads = torch_ads(config, keys, ADS)
        logits = net.rank(u, hidden, mask, net.ad_vectors(ads)[None], net.ad_bias(ads)[None])[0]
        return (logits + net.ad_rates(ads)).numpy()


@pytest.mark.parametrize("name", ["small", "of a log", "told when asked"])
def test_retrieval_finds_the_ads_that_the_network_scores_highest(name):
    config = CONFIGS[name]
    net, keys, tensors = network(config)
    scorer, sequence = scorer_of(config, tensors), Sequence(3, 50)
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    for n in range(50):
        sequence.append_to(history, 0, n)
    index = scorer.index(Catalogue().upsert(ADS))
    words = np.array([[(1 << len(ADS)) - 1]], np.uint64)
    bias = np.zeros((1, len(ADS)), np.float32)
    _, scores = scorer.retrieve(
        scorer.encode(history, rows, sequence.asked(49)), index, bias, rows, words, 10
    )
    with torch.no_grad():
        query = net.queries(sequence.users(net, net.hidden(sequence.events(config, keys))[0])[-1])
        ads = torch_ads(config, keys, ADS)
        expected = (net.ad_vectors(ads) @ query + net.ad_bias(ads)).topk(10).values.numpy()
    np.testing.assert_allclose(scores[0], expected, atol=LOGIT_TOLERANCE)


def test_a_users_vector_agrees_after_every_event_of_long_real_sessions():
    path = DATA / "otto" / "train.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is missing; set IMPULSE_TEST_DATA")
    with path.open("rb") as lines:
        sessions = [msgspec.json.decode(line)["events"] for line in islice(lines, 500)]
    longest = [RealSequence(events) for events in sorted(sessions, key=len)[-3:]]
    aids = {event["aid"] for events in sessions for event in events[::2]}  # the others are unknown ads
    config = ModelConfig(vocabulary=len(aids), use_wait=True)
    net, _, tensors = network(config)
    keys = np.sort(np.array([key64(str(aid)) for aid in aids], np.uint64))
    scorer = scorer_of(config, tensors | {"vocabulary_keys": keys})
    history = HistoryTable.empty(len(longest), scorer.history_length)
    for row, sequence in enumerate(longest):
        with torch.no_grad():
            users = sequence.users(net, net.hidden(sequence.events(config, keys))[0]).numpy()
        for n in range(len(sequence)):
            sequence.append_to(history, row, n)
            got = scorer.encode(history, np.array([row]), sequence.asked(n))[0]
            np.testing.assert_allclose(got, users[n], atol=VECTOR_TOLERANCE, rtol=0)
