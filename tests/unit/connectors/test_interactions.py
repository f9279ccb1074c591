import gzip
import os
from pathlib import Path

import pytest

from connectors.interactions import read_interactions, read_items
from models.domain.errors import LogError

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def write(tmp_path, text, name="file.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def sequences(interactions):
    bounds = zip(interactions.offsets[:-1], interactions.offsets[1:], strict=True)
    ids = interactions.item_ids
    return {
        user: [ids[i] for i in interactions.item[a:b]]
        for user, (a, b) in zip(interactions.user_ids, bounds, strict=True)
    }


def test_pairs_keep_the_order_of_the_file(tmp_path):
    path = write(tmp_path, "u1 b\nu2 a\nu1 a\n\nu1 c\n")
    assert sequences(read_interactions(path, "pairs")) == {"u1": ["b", "a", "c"], "u2": ["a"]}


def test_sequences_are_one_user_per_line(tmp_path):
    path = write(tmp_path, "7 3 1 2\n8 1\n")
    assert sequences(read_interactions(path, "sequences")) == {"7": ["3", "1", "2"], "8": ["1"]}


@pytest.mark.parametrize("form", ["pairs", "sequences"])
def test_a_line_of_blanks_is_passed_over(tmp_path, form):
    path = write(tmp_path, "7 3\n  \t \n8 1\n")
    assert sequences(read_interactions(path, form)) == {"7": ["3"], "8": ["1"]}


def test_recbole_is_sorted_by_time_and_ties_keep_the_order_of_the_file(tmp_path):
    text = "item_id:token\tuser_id:token\ttimestamp:float\nc\tu\t30\na\tu\t10\nb\tu\t10\n"
    found = read_interactions(write(tmp_path, text), "recbole")
    assert sequences(found) == {"u": ["a", "b", "c"]}
    assert found.time_ms.tolist() == [10_000, 10_000, 30_000]


def test_recbole_without_times_keeps_the_order_of_the_file(tmp_path):
    text = "user_id:token\titem_id:token\nu\tb\nu\ta\n"
    found = read_interactions(write(tmp_path, text), "recbole")
    assert sequences(found) == {"u": ["b", "a"]}
    assert found.time_ms is None


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (("1600000000", "1600000001.5"), [1_600_000_000_000, 1_600_000_001_500]),
        (("1600000000123", "1600000001501"), [1_600_000_000_123, 1_600_000_001_501]),
        (("1600000000123456", "1600000001501999"), [1_600_000_000_123, 1_600_000_001_501]),
    ],
)
def test_times_in_seconds_milliseconds_and_microseconds_are_told_apart(tmp_path, times, found):
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(f"u\ti{t}\t{t}\n" for t in times)
    assert read_interactions(write(tmp_path, text), "recbole").time_ms.tolist() == found


def test_a_time_in_another_unit_than_the_rest_of_the_file_is_refused_by_line(tmp_path):
    rows = ["1600000000", "1600000000123", "1600000002"]
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(f"u\ti\t{t}\n" for t in rows)
    with pytest.raises(LogError, match=r"line 3.*seconds since 1970"):
        read_interactions(write(tmp_path, text), "recbole")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, pack):
    path = tmp_path / "marked"
    path.write_bytes(pack("\ufeffuser_id:token\titem_id:token\nu\ta\n".encode()))
    assert sequences(read_interactions(path, "recbole")) == {"u": ["a"]}
    path.write_bytes(pack("\ufeffu a\nu b\n".encode()))
    assert sequences(read_interactions(path, "pairs")) == {"u": ["a", "b"]}


def test_gzip_is_known_by_its_bytes_not_its_name(tmp_path):
    path = tmp_path / "no_suffix"
    path.write_bytes(gzip.compress(b"u a\nu b\n"))
    assert sequences(read_interactions(path, "pairs")) == {"u": ["a", "b"]}


def test_the_hash_names_the_data(tmp_path):
    one = read_interactions(write(tmp_path, "u a\nu b\nu c\n", "one"), "pairs")
    same = read_interactions(write(tmp_path, "u a b c\n", "same"), "sequences")
    other = read_interactions(write(tmp_path, "u a\nu b\nv a\n", "other"), "pairs")
    assert one.data_hash == same.data_hash
    assert one.data_hash != other.data_hash


def test_without_last_cuts_every_user_and_last_is_what_was_cut(tmp_path):
    found = read_interactions(write(tmp_path, "u a b c\nv a\n"), "sequences")
    assert sequences(found.without_last(1)) == {"u": ["a", "b"], "v": []}
    assert [found.item_ids[i] for i in found.last()] == ["c", "a"]
    assert found.without_last(1).last().tolist() == [1, -1]


def test_items_bring_category_and_text(tmp_path):
    text = (
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\tToy Story\tAnimation Comedy\n2\tHeat\t\n"
    )
    assert read_items(write(tmp_path, text)) == {
        "1": ("Animation", "Toy Story Animation Comedy"),
        "2": ("", "Heat "),
    }


def test_items_are_known_by_the_column_of_their_ids_wherever_it_stands(tmp_path):
    text = "title:token_seq\titem_id:token\tclass:token_seq\nToy Story\t1\tAnimation Comedy\n"
    assert read_items(write(tmp_path, text)) == {"1": ("Animation", "Toy Story Animation Comedy")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title:token_seq\tclass:token_seq\nHeat\tDrama\n", "expected item_id"),
        ("title:token_seq\titem_id:token\nHeat\n", "line 2"),
    ],
)
def test_a_file_of_items_without_ids_is_refused(tmp_path, text, message):
    with pytest.raises(LogError, match=message):
        read_items(write(tmp_path, text))


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("pairs", "u a\nu b c\n", "line 2"),
        ("pairs", "", "no interaction"),
        ("sequences", "u\n", "line 1"),
        ("recbole", "u\ta\n", "header"),
        ("recbole", "", "header"),
        ("recbole", "user_id:token\trating:float\n1\t2\n", "user_id and item_id"),
        ("recbole", "user_id:token\titem_id:token\n1\n", "2 columns"),
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\tnan\n", "seconds since 1970"),
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\tsoon\n", "seconds since 1970"),
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t-1\n", "line 2"),
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t1.6e18\n", "since 1970"),
        ("csv", "u a\n", "--format"),
    ],
)
def test_what_is_not_of_the_format_is_named_with_its_place(tmp_path, format, text, message):
    with pytest.raises(LogError, match=message):
        read_interactions(write(tmp_path, text), format)


def test_a_missing_file_and_a_cut_gzip_are_clear_errors(tmp_path):
    with pytest.raises(LogError, match="nowhere"):
        read_interactions(tmp_path / "nowhere", "pairs")
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"u a\n" * 1000)[:-20])
    with pytest.raises(LogError, match=r"cut\.gz"):
        read_interactions(path, "pairs")


@pytest.mark.parametrize(
    ("file", "format", "users", "items", "count"),
    [
        ("ml-1m/ml-1m.txt.gz", "pairs", 6040, 3416, 999_611),
        ("amazon-beauty/Beauty.txt.gz", "sequences", 22_363, 12_101, 198_502),
        ("ml-100k/ml-100k.inter.gz", "recbole", 943, 1682, 100_000),
    ],
)
@pytest.mark.slow
def test_real_files_are_read_whole(file, format, users, items, count):
    if not (DATA / file).exists():
        pytest.skip(f"{DATA / file} is missing; set IMPULSE_TEST_DATA")
    found = read_interactions(DATA / file, format)
    assert (len(found), len(found.item_ids), len(found.item)) == (users, items, count)
