"""Bitsets over ads: packing, counting and removing agree with flags."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.policy.bitsets import members, pack, popcount, remove, unpack, words_for

flags = st.lists(st.booleans(), max_size=200).map(lambda bits: np.array(bits, np.bool_))


@given(flags)
def test_unpacking_gives_back_what_was_packed(bits):
    assert unpack(pack(bits), len(bits)).tolist() == bits.tolist()


@given(flags)
def test_the_ads_of_a_bitset_are_those_with_a_flag(bits):
    words = pack(bits)
    assert len(words) == words_for(len(bits))
    assert members(words).tolist() == np.flatnonzero(bits).tolist()
    assert popcount(words) == bits.sum()


@given(flags, st.randoms(use_true_random=False))
def test_removing_counts_what_was_there_and_leaves_the_rest(bits, random):
    gone = np.array([random.random() < 0.5 for _ in bits], np.bool_)
    words = pack(bits)
    assert remove(pack(gone), words) == (bits & gone).sum()
    assert unpack(words, len(bits)).tolist() == (bits & ~gone).tolist()


def test_bit_a_of_a_word_is_row_a():
    assert pack(np.array([True, False, False, True])).tolist() == [0b1001]
    assert pack(np.array([False] * 64 + [True])).tolist() == [0, 1]
