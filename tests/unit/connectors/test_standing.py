"""What stands in the topics already is struck off once, and given up when its source has passed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from connectors.producer import headers_of
from connectors.standing import Mark, Standing, mark_of, with_source
from models.domain.log import Output

OUTPUTS = st.builds(
    Output,
    st.sampled_from(["decisions", "dead_letters"]),
    st.sampled_from([None, b"", b"user"]),
    st.sampled_from([None, b"", b"value", b"other"]),
    st.integers(0, 2),
    st.integers(0, 5),
    st.none(),
    headers=st.sampled_from([(), (("why", b"so"),), (("impulse-source", b"9/9"),)]),
)


def mark(output: Output) -> Mark:
    named = output._replace(headers=with_source(output, output.headers))
    found = mark_of(output.stream, named.key, named.value, headers_of(named))
    assert found is not None
    return found


@given(st.lists(OUTPUTS), st.lists(OUTPUTS))
def test_together_with_what_stands_every_output_is_there_as_often_as_it_was_decided(lost, kept):
    decided = kept + lost
    standing = Standing(map(mark, kept))
    written = [output for output in decided if not standing.strikes_off(mark(output))]
    assert Counter(map(mark, kept + written)) == Counter(map(mark, decided))
    assert not standing


@given(OUTPUTS, OUTPUTS)
def test_two_outputs_have_one_mark_only_if_they_are_the_same(one, other):
    assert (mark(one) == mark(other)) == (one == other)


@given(OUTPUTS)
def test_a_mark_names_the_source_of_the_output_whatever_headers_its_record_had(output):
    assert mark(output)[:2] == (output.source_partition, output.source_offset)


def test_a_record_of_somebody_else_has_no_mark():
    assert mark_of("decisions", b"k", b"v", ()) is None
    assert mark_of("decisions", b"k", b"v", (("impulse-source", b"not a place"),)) is None


def test_what_is_not_decided_again_is_given_up_when_its_partition_is_past_it():
    standing = Standing([Mark(0, 5, b"a"), Mark(0, 7, b"b"), Mark(1, 5, b"c")])
    standing.strikes_off(Mark(0, 6, b"another"))
    assert standing.give_up_passed() == 1
    assert standing.values() == [(0, 7, b"b"), (1, 5, b"c")]
