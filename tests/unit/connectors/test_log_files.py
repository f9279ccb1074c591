from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from connectors.log_files import LogWriter, read_log, write_log
from connectors.log_lines import decode_line, encode_line, is_json_line
from models.domain.errors import LogError
from models.domain.log import LogRecord

NAMES = ["log.jsonl", "log.jsonl.zst", "log.jsonl.gz"]

any_bytes = st.binary(max_size=40)
json_bytes = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
).map(lambda value: json.dumps(value).encode())
records = st.builds(
    LogRecord,
    topic=st.text(max_size=5),
    partition=st.integers(0, 99),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(-1, 2**50),
    key=st.none() | any_bytes,
    value=st.none() | any_bytes | json_bytes,
    headers=st.lists(st.tuples(st.text(max_size=5), any_bytes), max_size=3).map(tuple),
)


def numbered(count: int) -> list[LogRecord]:
    return [LogRecord("t", i % 4, i // 4, 1000 + i, b"u%d" % i, b'{"n":%d}' % i) for i in range(count)]


@given(records)
def test_a_record_comes_back_from_its_line_to_the_last_byte(record):
    line = encode_line(record)
    assert b"\n" not in line and b"\r" not in line
    assert decode_line(line) == record


@given(records)
def test_a_line_is_json_for_any_other_reader(record):
    parsed = json.loads(encode_line(record))
    assert parsed["offset"] == record.offset


def test_a_value_that_is_json_stands_unchanged_in_its_line():
    value = b'{"b": 1.50,  "a":"\\u00e9"}'
    assert b'"value":' + value in encode_line(LogRecord("t", 0, 0, 0, None, value))


@pytest.mark.parametrize("value", [b"", b"{", b" {}", b"{}\n", b'{\n"a":1}', b"\xff", b"{}{}", b"NaN"])
def test_a_value_that_is_no_json_on_one_line_is_not_embedded(value):
    assert not is_json_line(value)
    assert decode_line(encode_line(LogRecord("t", 0, 0, 0, b"k", value))).value == value


def test_no_value_and_the_value_null_are_different():
    tombstone, null = (LogRecord("t", 0, 0, 0, b"k", value) for value in (None, b"null"))
    assert decode_line(encode_line(tombstone)).value is None
    assert decode_line(encode_line(null)).value == b"null"


def test_deeply_nested_values_survive():
    value = b"[" * 5000 + b"]" * 5000
    assert decode_line(encode_line(LogRecord("t", 0, 0, 0, None, value))).value == value


@pytest.mark.parametrize("depth", [200, 201, 990, 995, 998, 999, 1000])
@pytest.mark.parametrize("pair", [b"[]", b'{"]":}', b'["]\\"[",]'])
def test_a_value_of_any_depth_can_be_read_back_from_its_line(depth, pair):
    value = pair[:-1] * depth + b"0" + pair[-1:] * depth
    line = encode_line(LogRecord("t", 0, 0, 0, None, value))
    assert decode_line(line).value == value
    assert (b'"value":' in line) == (depth == 200)


def test_a_value_of_many_shallow_lists_stands_unchanged():
    assert is_json_line(b"[" + b",".join([b'{"a":["[[[["]}'] * 500) + b"]")


@pytest.mark.parametrize("name", NAMES)
def test_a_log_is_read_back_as_it_was_written(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    assert write_log(path, numbered(5000)) == 5000
    assert [r for batch in read_log(path) for r in batch] == numbered(5000)


@pytest.mark.parametrize("name", NAMES)
@given(sizes=st.tuples(st.integers(1, 70), st.integers(0, 60)))
def test_batches_have_the_size_asked_for_and_begin_where_asked(tmp_path_factory, name, sizes):
    batch_size, skip = sizes
    path = tmp_path_factory.getbasetemp() / name
    if not path.exists():
        write_log(path, numbered(50))
    batches = list(read_log(path, batch_size, skip))
    assert [r for batch in batches for r in batch] == numbered(50)[skip:]
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_an_empty_log_has_no_batches(tmp_path):
    for name in NAMES:
        write_log(tmp_path / name, [])
        assert list(read_log(tmp_path / name)) == []


@pytest.mark.parametrize("suffix", [".zst", ".gz"])
def test_two_compressed_logs_in_one_file_are_read_as_one(tmp_path, suffix):
    one, both = (tmp_path / f"{name}.jsonl{suffix}" for name in "ab")
    write_log(one, numbered(30))
    both.write_bytes(one.read_bytes() * 2)
    assert [r for batch in read_log(both) for r in batch] == numbered(30) * 2


def test_the_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "log.jsonl.zst"
    with LogWriter(path) as writer:
        writer.write(numbered(10))
        assert not path.exists()
    assert path.exists() and not path.with_name("log.jsonl.zst.part").exists()


def test_a_writer_that_fails_leaves_no_log_and_keeps_an_older_one(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(path, numbered(3))
    with pytest.raises(RuntimeError), LogWriter(path) as writer:
        writer.write(numbered(10))
        raise RuntimeError
    assert [r for batch in read_log(path) for r in batch] == numbered(3)


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_is_cut_short_is_refused(tmp_path, name):
    path = tmp_path / name
    write_log(path, numbered(2000))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(LogError, match="cut short"):
        list(read_log(path))


@pytest.mark.parametrize("suffix", [".zst", ".gz"])
def test_no_flipped_bit_of_a_compressed_log_changes_a_record(tmp_path, suffix):
    path = tmp_path / f"log.jsonl{suffix}"
    write_log(path, numbered(20))
    data, refused = path.read_bytes(), 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert [r for batch in read_log(path) for r in batch] == numbered(20)
        except LogError:
            refused += 1
    assert refused > 7 * len(data)


@pytest.mark.parametrize(("suffix", "name"), [(".zst", "zstd"), (".gz", "gzip")])
def test_damaged_compression_is_refused(tmp_path, suffix, name):
    path = tmp_path / f"log.jsonl{suffix}"
    path.write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(LogError, match=f"damaged {name}"):
        list(read_log(path))


def test_a_bad_line_is_named_by_file_and_number(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(path, numbered(3))
    path.write_bytes(path.read_bytes() + b'{"topic":1}\n')
    with pytest.raises(LogError, match=r"log\.jsonl:4: .*`\$\.topic`.*Fix: "):
        list(read_log(path, batch_size=2))


def test_bad_lines_are_named_rightly_after_a_skip(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(path, numbered(3))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(LogError, match=r"log\.jsonl:4: "):
        list(read_log(path, skip=2))


@pytest.mark.parametrize("line", [b"", b"[]", b"\xff", b'{"topic":"t"}', b'{"a":' * 50_000])
def test_whatever_a_line_holds_the_error_is_a_log_error(line):
    with pytest.raises(LogError, match="here:7"):
        decode_line(line, "here", 7)


def test_a_missing_log_is_refused_with_the_fix(tmp_path):
    with pytest.raises(LogError, match="Fix: name a recorded log"):
        list(read_log(tmp_path / "none.jsonl"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be written"):
        LogWriter(tmp_path / "file" / "log.jsonl")


def test_the_compressed_log_is_plain_zstd(tmp_path):
    write_log(tmp_path / "log.jsonl.zst", numbered(2))
    with zstandard.open(tmp_path / "log.jsonl.zst", "rb") as file:
        assert len(file.read().splitlines()) == 2


def test_a_log_that_gzip_packed_is_read_and_one_packed_here_is_plain_gzip(tmp_path):
    write_log(tmp_path / "log.jsonl", numbered(2))
    plain = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "theirs.jsonl.gz").write_bytes(gzip.compress(plain))
    write_log(tmp_path / "ours.jsonl.gz", numbered(2))
    assert [r for batch in read_log(tmp_path / "theirs.jsonl.gz") for r in batch] == numbered(2)
    assert gzip.decompress((tmp_path / "ours.jsonl.gz").read_bytes()) == plain


@pytest.mark.parametrize("name", ["bomb.jsonl.zst", "bomb.jsonl.gz"])
@pytest.mark.parametrize("byte", [b"0", b"\n"])
def test_a_small_file_that_unpacks_to_a_huge_one_takes_little_memory(tmp_path, name, byte):
    path, packer = tmp_path / name, zstandard.ZstdCompressor().compressobj()
    if name.endswith("gz"):
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    path.write_bytes(b"".join(packer.compress(byte * 2**20) for _ in range(200)) + packer.flush())
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    try:
        with pytest.raises(LogError, match="Fix: "):
            list(read_log(path))
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_a_line_as_long_as_many_chunks_is_read_back(tmp_path, name):
    long = LogRecord("t", 0, 0, 1, b"k", json.dumps("ab" * 2**20).encode())
    write_log(tmp_path / name, [long, *numbered(3)])
    assert [r for batch in read_log(tmp_path / name) for r in batch] == [long, *numbered(3)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [3, 100_000])
def test_a_disk_that_is_full_is_an_error_with_the_fix(tmp_path, name, count):
    """The log is written through a link to a device that has no room."""
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(LogError, match=r"cannot be written: .*No space left.*Fix: .* on a disk with room"):
        write_log(tmp_path / name, numbered(count))
    assert not (tmp_path / name).exists()
