"""Ratings in the order of time."""

import gzip

import pytest

from connectors.ratings import read_ratings
from models.domain.errors import LogError

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def file(tmp_path, *rows, header=HEADER):
    path = tmp_path / "x.inter"
    path.write_text(header + "".join("\t".join(row) + "\n" for row in rows))
    return path


def test_rows_come_in_the_order_of_time_and_ties_in_that_of_the_file(tmp_path):
    rows = [("u", "i", "3", "20"), ("v", "j", "4", "10"), ("u", "k", "5", "10")]
    found = read_ratings(file(tmp_path, *rows))
    assert [found.users[u] for u in found.user] == ["v", "u", "u"]
    assert [found.items[i] for i in found.item] == ["j", "k", "i"]
    assert found.rating.tolist() == [4, 5, 3]
    assert found.time_ms.tolist() == [10_000, 10_000, 20_000]


def test_times_in_milliseconds_are_known_by_their_median(tmp_path):
    rows = [("u", "i", "3", "1600000000123"), ("v", "i", "4", "1600000000122")]
    assert read_ratings(file(tmp_path, *rows)).time_ms.tolist() == [1_600_000_000_122, 1_600_000_000_123]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    found = read_ratings(file(tmp_path, ("u", "i", "3", "20"), header="\ufeff" + HEADER))
    assert found.users == ("u",)


def test_gzip_is_read_alike(tmp_path):
    plain = file(tmp_path, ("u", "i", "3", "20"))
    packed = tmp_path / "x.inter.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_ratings(packed).rating.tolist() == [3]


@pytest.mark.parametrize(
    "row", [("u", "i", "nan", "1"), ("u", "i", "x", "1"), ("u", "i", "3", "-1"), ("u", "i", "3")]
)
def test_a_malformed_row_is_named_by_line(tmp_path, row):
    with pytest.raises(LogError, match="line 3"):
        read_ratings(file(tmp_path, ("u", "i", "3", "1"), row))


def test_a_missing_column_an_empty_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(LogError, match="rating"):
        read_ratings(file(tmp_path, header="user_id:token\titem_id:token\ttimestamp:float\n"))
    with pytest.raises(LogError, match="no rating"):
        read_ratings(file(tmp_path))
    with pytest.raises(LogError, match="readable"):
        read_ratings(tmp_path / "none.inter")
