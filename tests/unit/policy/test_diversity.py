"""The slate: hard rules between its ads, and diversity."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad
from models.domain.policy import Policy
from models.policy.columns import columns_of, label_table
from models.policy.diversity import (
    SlateRules,
    board_of,
    close,
    greedy_slate,
    slate_rules,
)
from models.policy.similarity import Facets, facets_of, similarity
from models.policy.standing import count_codes, counts_by_name, reason_of

FREE = SlateRules(max_per_campaign=20, diversity=0.0)


def facets(n, campaign=None, category=None, advertiser=None, separation=None, labels=None):
    def column(values, default):
        return np.array(default if values is None else values, np.int32)

    groups = [[-1] * 4] * n if separation is None else [[g, -1, -1, -1] for g in separation]
    return Facets(
        column(campaign, range(n)),
        column(category, [-1] * n),
        column(advertiser, range(n)),
        column(groups, None),
        column(None, range(n)),
        label_table([("", *mine) for mine in labels or [()] * n], {}),
    )


def slate(ranks, of, rules=FREE, slots=3):
    candidates = np.arange(len(ranks), dtype=np.int32)[None]
    with np.errstate(divide="ignore"):
        log_rank = np.log(np.array([ranks], np.float64))
    return [k for k in greedy_slate(log_rank, candidates, slots, of, rules)[0].tolist() if k >= 0]


def test_without_rules_the_slate_is_the_best_candidates_in_order():
    assert slate([1, 4, 2, 3], facets(4)) == [1, 3, 2]


def test_ties_go_to_the_candidate_that_stands_first():
    assert slate([2, 2, 2], facets(3)) == [0, 1, 2]


def test_a_slate_ends_where_nothing_is_left():
    assert slate([1, 0, 0], facets(3)) == [0]


def test_a_campaign_gets_at_most_its_share_of_a_slate():
    rules = SlateRules(max_per_campaign=2, diversity=0.0)
    assert slate([9, 8, 7, 1], facets(4, campaign=[0, 0, 0, 1]), rules) == [0, 1, 3]


def test_rivals_of_a_separation_group_do_not_appear_together():
    of = facets(4, advertiser=[0, 1, 0, 2], separation=[5, 5, 5, -1])
    assert slate([9, 8, 7, 1], of) == [0, 2, 3]


def test_ads_without_an_advertiser_are_rivals_of_all_in_their_group():
    of = facets(3, advertiser=[-1, -1, 0], separation=[5, 5, 6])
    assert slate([9, 8, 7], of) == [0, 2]


def test_separation_groups_come_from_labels():
    columns = columns_of(
        (
            Ad(ad_id="a", campaign_id="a", advertiser_id="x", labels=("new", "separate:cars")),
            Ad(ad_id="b", campaign_id="b", advertiser_id="y", labels=("separate:bank", "separate:cars")),
            Ad(ad_id="c", campaign_id="c", advertiser_id="z", labels=("separate:bank",)),
        )
    )
    assert slate([9, 8, 7], facets_of(columns)) == [0, 2]


def test_an_ad_of_a_category_in_the_slate_counts_less():
    of = facets(3, category=[0, 0, 1])
    assert slate([10, 9, 8], of, slate_rules(Policy(diversity=0.0)), slots=2) == [0, 1]
    assert slate([10, 9, 8], of, slate_rules(Policy(diversity=0.2)), slots=2) == [0, 2]
    assert slate([10, 9, 8], of, slate_rules(Policy(diversity=0.1)), slots=2) == [0, 1]


def test_a_category_is_penalized_once_and_not_per_ad():
    of = facets(4, category=[0, 0, 0, 1])
    assert slate(
        [10, 9.9, 9.8, 8.5], of, slate_rules(Policy(diversity=0.1, max_per_campaign=9)), slots=4
    ) == [0, 1, 2, 3]


def test_full_diversity_shows_a_category_once():
    assert slate([9, 8, 1], facets(3, category=[0, 0, 1]), slate_rules(Policy(diversity=1.0))) == [0, 2]


def test_ads_without_a_category_are_not_alike():
    assert slate(
        [9, 8, 7.9], facets(3, category=[-1, -1, 0]), slate_rules(Policy(diversity=0.9)), slots=2
    ) == [0, 1]


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ({}, 0.0),
        ({"category": [3, 3]}, 1.0),
        ({"category": [3, 4], "advertiser": [7, 7]}, 0.0),
        ({"category": [-1, -1]}, 0.0),
        ({"labels": [("a", "b"), ("b", "c")]}, 1 / 3),
        ({"labels": [("a", "b", "a"), ("b", "a")]}, 1.0),
        ({"labels": [("a",), ()]}, 0.0),
        ({"category": [3, 3], "labels": [("a", "b"), ("b", "c")]}, 1.0),
    ],
)
def test_two_ads_are_as_alike_as_the_most_that_they_have_in_common(traits, expected):
    of = facets(2, **traits)
    assert similarity(of, 0, 1) == similarity(of, 1, 0) == expected


def test_ads_are_as_alike_after_a_change_of_the_catalogue_as_in_one_read_anew():
    def ad(name, *labels):
        return Ad(ad_id=name, campaign_id="c", labels=labels)

    before = (ad("a", "x", "y"), ad("b", "y"))
    after = (before[0], ad("b", "z", "y", "w", "v"), ad("c", "x", "y"))
    patched, anew = facets_of(columns_of(after, columns_of(before))), facets_of(columns_of(after))
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert [similarity(patched, *pair) for pair in pairs] == [0.2, 1.0, 0.2]
    assert [similarity(anew, *pair) for pair in pairs] == [0.2, 1.0, 0.2]


def test_an_ad_counts_less_by_its_greatest_similarity_to_one_in_the_slate():
    of = facets(3, category=[0, 1, 1], labels=[("a",), (), ("a", "b")])
    board, rules = board_of(np.log(np.array([[9.0, 8.0, 7.0]]))), slate_rules(Policy(diversity=0.4))
    column, candidates = np.array([[0, 1, -1]]), np.arange(3, dtype=np.int32)[None]
    for slot, share in ((0, 1 - 0.4 / 2), (1, 1 - 0.4)):
        close(board, candidates, column, slot, of, rules, np.array([False]))
        assert np.exp(board.log_rank[0, 2]) == pytest.approx(7.0 * share)


def test_every_rule_that_closes_a_slate_to_a_candidate_is_named():
    of = facets(
        5, campaign=[0, 0, 1, 2, 3], category=[0, 1, 2, 0, 3], advertiser=[0, 0, 1, 2, 3],
        separation=[5, 6, 5, 7, 8],
    )  # fmt: skip
    board, rules = board_of(np.zeros((1, 5))), SlateRules(max_per_campaign=1, diversity=1.0)
    close(board, np.arange(5, dtype=np.int32)[None], np.array([[0]]), 0, of, rules, np.array([False]))
    assert [reason_of(code) for code in board.standing[0].tolist()] == [
        "", "campaign_limit", "separation", "diversity", "",
    ]  # fmt: skip
    assert counts_by_name(count_codes(board.standing)[0].tolist()) == {
        "campaign_limit": 1, "separation": 1, "diversity": 1,
    }  # fmt: skip


catalogue_facets = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0.01, 100), min_size=n, max_size=n),
        st.builds(
            facets,
            st.just(n),
            st.lists(st.integers(0, 3), min_size=n, max_size=n),
            st.lists(st.integers(-1, 2), min_size=n, max_size=n),
            st.lists(st.integers(-1, 3), min_size=n, max_size=n),
            st.lists(st.integers(-1, 1), min_size=n, max_size=n),
        ),
    )
)


@given(catalogue_facets, st.integers(1, 3), st.floats(0, 1), st.integers(1, 6))
def test_a_slate_obeys_every_hard_rule_and_wastes_no_slot(drawn, most, diversity, slots):
    ranks, of = drawn
    rules = slate_rules(Policy(diversity=min(diversity, 0.99), max_per_campaign=most))
    chosen = slate(ranks, of, rules, slots)
    assert len(set(chosen)) == len(chosen)
    assert all(of.campaign[chosen].tolist().count(c) <= most for c in of.campaign[chosen])
    assert not any(rivals(of, a, b) for a, b in permutations(chosen, 2))
    if len(chosen) < slots:
        left = [k for k in range(len(ranks)) if k not in chosen]
        full = [c for c in of.campaign if of.campaign[chosen].tolist().count(c) >= most]
        assert all(of.campaign[k] in full or any(rivals(of, k, c) for c in chosen) for k in left)


def rivals(of, a, b):
    same = of.advertiser[a] == of.advertiser[b] and of.advertiser[a] >= 0
    return of.separation[a, 0] >= 0 and of.separation[a, 0] == of.separation[b, 0] and not same


@given(catalogue_facets, catalogue_facets, st.integers(1, 4))
def test_a_slate_does_not_depend_on_its_batch(one, two, slots):
    ranks, of = one
    k = len(ranks)
    other = [two[0][n % len(two[0])] for n in range(k)]
    log_rank = np.log(np.array([other, ranks]))
    candidates = np.tile(np.arange(k, dtype=np.int32), (2, 1))
    rules = slate_rules(Policy())
    together = greedy_slate(log_rank, candidates, slots, of, rules)
    alone = greedy_slate(log_rank[1:], candidates[1:], slots, of, rules)
    assert together[1].tolist() == alone[0].tolist()


@given(catalogue_facets)
def test_in_the_randomized_bucket_a_pick_changes_no_rank_value_but_by_ruling_out(drawn):
    ranks, of = drawn
    before = np.log(np.array([ranks]))
    board, candidates = board_of(before), np.arange(len(ranks), dtype=np.int32)[None]
    rules = slate_rules(Policy(diversity=0.5, max_per_campaign=1))
    close(board, candidates, np.array([[0]]), 0, of, rules, np.array([True]))
    kept = board.log_rank > -np.inf
    assert (board.log_rank[kept] == before[kept]).all()
    assert [k for k in range(len(ranks)) if not kept[0, k]] == [
        k for k in range(len(ranks)) if k == 0 or of.campaign[k] == of.campaign[0] or rivals(of, 0, k)
    ]


def test_the_first_feasible_ads_of_a_gumbel_order_follow_plackett_luce_over_what_the_rules_leave():
    """The claim on which exact propensities rest: what `close` leaves is the next slot's candidate set."""
    weights, of = np.array([4.0, 3.0, 2.0, 1.0]), facets(4, campaign=[0, 0, 1, 2])
    rules, rng = SlateRules(max_per_campaign=1, diversity=0.0), np.random.default_rng(7)
    draws = 40_000
    log_rank = np.log(weights) + rng.gumbel(size=(draws, 4))
    candidates = np.tile(np.arange(4, dtype=np.int32), (draws, 1))
    slates = greedy_slate(log_rank, candidates, 2, of, rules)
    for first, second, feasible in ((0, 2, 3.0), (0, 3, 3.0), (2, 0, 8.0), (3, 1, 9.0)):
        exact = weights[first] / 10 * weights[second] / feasible
        share = ((slates[:, 0] == first) & (slates[:, 1] == second)).mean()
        assert share == pytest.approx(exact, abs=4 * math.sqrt(exact / draws))
