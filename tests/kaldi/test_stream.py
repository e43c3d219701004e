"""Reading and writing bytes: names, exact lengths, commands, gzip, failing disks."""

from __future__ import annotations

import gzip
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.sources import parse_rxfilename
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A file may not grow beyond 100 kB: the kernel answers a longer write as it answers one to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def reader_of(content: bytes, path: Path, binary: bool = False) -> ByteReader:
    path.write_bytes(content)
    reader = open_reader(path)
    reader.binary = binary
    return reader


@pytest.mark.parametrize(
    ("name", "kind", "target", "offset"),
    [
        ("a.ark:123", "file", "a.ark", 123),
        ("a:b.ark", "file", "a:b.ark", None),
        ("gunzip -c a.gz |", "pipe", "gunzip -c a.gz ", None),
        ("-", "stdin", "-", None),
        ("", "stdin", "-", None),
    ],
)
def test_rxfilenames(name: str, kind: str, target: str, offset: int | None) -> None:
    parsed = parse_rxfilename(name)
    assert (parsed.kind, parsed.target, parsed.offset) == (kind, target, offset)


@pytest.mark.parametrize("name", ["| cat", "a | b", " a", "a ", "a\0b", "x" * 10000, "/", "no/such/file", "\udc80"])
def test_what_cannot_be_opened_is_a_data_error(name: str) -> None:
    with pytest.raises(DataError):
        open_reader(name)


@pytest.mark.parametrize(
    ("write", "read", "values"),
    [
        (basic.write_int32, ByteReader.read_int32, [0, -1, 2**31 - 1, -(2**31)]),
        (basic.write_uint32, ByteReader.read_uint32, [0, 2**32 - 1]),
        (basic.write_float, ByteReader.read_float, [0.0, -1.5, float("inf")]),
        (basic.write_double, ByteReader.read_float, [0.25, 1e-5, 1234567.0]),
        (basic.write_bool, ByteReader.read_bool, [True, False]),
        (basic.write_token, ByteReader.read_token, ["<A>", "Straße"]),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_basic_types_come_back(
    write: Callable[..., None], read: Callable[[ByteReader], object], values: list[object], binary: bool, tmp_path: Path
) -> None:
    file = io.BytesIO()
    for value in values:
        write(file, value, binary)
    with reader_of(file.getvalue(), tmp_path / "x", binary) as reader:
        assert [read(reader) for _ in values] == values
        reader.skip_space()
        assert reader.at_end()


@pytest.mark.parametrize("binary", [True, False])
def test_integer_vectors_and_pairs_come_back(binary: bool, tmp_path: Path) -> None:
    file = io.BytesIO()
    basic.write_int32_vector(file, [3, -1, 7], binary)
    basic.write_int32_pairs(file, np.array([[1, 2], [3, 4]]), binary)
    basic.write_int32_vector(file, [], binary)
    with reader_of(file.getvalue(), tmp_path / "x", binary) as reader:
        assert reader.read_int32_vector().tolist() == [3, -1, 7]
        assert reader.read_int32_pairs().tolist() == [[1, 2], [3, 4]]
        assert reader.read_int32_vector().tolist() == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"1_000 ", ByteReader.read_int32),
        (b"4294967296 ", ByteReader.read_int32),
        (b"0x10 ", ByteReader.read_float),
        (b"12", ByteReader.read_int32),  # cut: nothing says that the number is over
        (b"<Toke", ByteReader.read_token),
        (b"X ", ByteReader.read_bool),
        (b"[ 1 2.5 ]\n", ByteReader.read_int32_vector),
        (b"[ 1 2 ] 3\n", ByteReader.read_int32_vector),
        (b"[ 1,2 3 ]\n", ByteReader.read_int32_pairs),
        (b"\xff\xfe ", ByteReader.read_token),
        (b"a" * 100_000, ByteReader.read_token),
    ],
)
def test_malformed_text_is_refused_with_its_byte(
    text: bytes, read: Callable[[ByteReader], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught, reader_of(text, tmp_path / "x") as reader:
        read(reader)
    assert caught.value.byte is not None and str(tmp_path / "x") in str(caught.value)


def test_malformed_number_is_found_in_a_vector(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'2x'") as caught, reader_of(b"[ 1 2x 3 ]\n", tmp_path / "x") as reader:
        reader.read_int32_vector()
    assert caught.value.byte == 4


@pytest.mark.parametrize("suffix", ["", ".gz", "pipe"])
def test_a_lying_length_allocates_nothing(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    content = np.arange(10, dtype="<f4").tobytes()
    path.write_bytes(gzip.compress(content) if suffix == ".gz" else content)
    name = f"cat {path} |" if suffix == "pipe" else str(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 200_000_000, hard))
    try:
        with pytest.raises(DataError), open_reader(name) as reader:
            reader.read_array(np.float32, 2**40)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_long_reads_from_a_command_are_whole(tmp_path: Path) -> None:
    values = np.arange(6_000_000, dtype=np.float32)
    values.tofile(tmp_path / "x")
    with open_reader(f"cat {tmp_path / 'x'} |") as reader:
        reader.read(4)
        np.testing.assert_array_equal(reader.read_array(np.float32, len(values) - 1), values[1:])
        assert reader.at_end() and reader.offset == 4 * len(values)


@pytest.mark.parametrize(
    "command",
    ["false", "echo x; exit 3", "echo x; kill -9 $$", "echo x; kill -15 $$", "(echo x; exit 3) | cat", "nosuchprogram"],
)
def test_a_failing_command_is_an_error_though_its_data_was_read(command: str) -> None:
    with pytest.raises(DataError, match="command"), open_reader(f"{command} 2> /dev/null |") as reader:
        reader.at_end()


def test_a_failing_command_explains_missing_data() -> None:
    with pytest.raises(DataError, match="exit status 3"), open_reader("printf abc; exit 3 |") as reader:
        reader.read(10)


def test_a_command_is_read_to_its_end_and_stopped_on_errors() -> None:
    with open_reader("yes | head -100000 |") as reader:
        assert reader.read(1) == b"y"
    with pytest.raises(ZeroDivisionError), open_reader("yes |") as reader:
        raise ZeroDivisionError


@pytest.mark.parametrize("num_cut", [1, 4, 8, 12, 30])
def test_damaged_gzip_is_refused(num_cut: int, tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(100_000))
    path = tmp_path / "x.gz"
    for damage in (packed[:-num_cut], packed + b"x" * num_cut, packed[:-5] + b"\0" * 5, b""):
        path.write_bytes(damage)
        with pytest.raises(DataError), open_reader(path) as reader:
            reader.read(100)


def test_gzip_members_in_a_row_are_one_stream(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"one ") + gzip.compress(b"two "))
    with open_reader(tmp_path / "x.gz") as reader:
        assert (reader.read_token(), reader.read_token()) == ("one", "two")


def test_offsets_and_seeking(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"".join(b"%06d " % i for i in range(50_000)))
    with open_reader(f"{path}:{7 * 40_000}") as reader:
        assert reader.read_token() == "040000" and reader.offset == 7 * 40_001
        reader.seek(7)
        assert reader.read_token() == "000001"
        with pytest.raises(DataError, match="ends at byte 350000"):
            reader.seek(350_001)
    with pytest.raises(DataError, match="ends at byte 350000"):
        open_reader(f"{path}:350001")


def test_a_read_error_of_the_disk_is_a_data_error() -> None:
    with pytest.raises(DataError, match="Input/output error"), open_reader("/proc/self/mem") as reader:
        reader.at_end()


def test_forked_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(200_000) + b"end ")
    with open_reader(path) as reader:
        reader.read(10)
        child = os.fork()
        if child == 0:
            reader.read(100_000)
            os._exit(0)
        os.waitpid(child, 0)
        reader.read(200_000 - 10)
        assert reader.read_token() == "end"


@pytest.mark.parametrize("name", ["x", "x.gz", "sub/x"])
def test_a_file_appears_only_when_complete(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with open_writer(path) as file:
        file.write(b"first ")
    with pytest.raises(ZeroDivisionError), open_writer(path) as file:
        file.write(b"second ")
        raise ZeroDivisionError
    with open_reader(path) as reader:
        assert reader.read_token() == "first"
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_same_data_gives_the_same_gzip_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with open_writer(tmp_path / name) as file:
            file.write(b"data" * 1000)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("name", ["x:12", "cat |", " x", "x ", "a\0b", "ark:x", "ark,scp:x,y"])
def test_names_that_cannot_be_written_to(name: str) -> None:
    with pytest.raises(DataError, match="no name to write to"), open_writer(name):
        pass


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("storage")
    with open_writer(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "storage").read_bytes() == b"x"


def test_a_device_is_written_to_and_not_replaced() -> None:
    with open_writer("/dev/null") as file:
        file.write(b"x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(DataError, match="No space left"), open_writer("/dev/full") as file:
        file.write(b"x" * 100_000)


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_full_disk_leaves_what_was_there(name: str, tmp_path: Path, small_disk: None) -> None:
    path = tmp_path / name
    with open_writer(path) as file:
        file.write(b"old ")
    before = path.read_bytes()
    with pytest.raises(DataError, match="File too large"), open_writer(path) as file:
        file.write(os.urandom(200_000))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cat > /dev/null; exit 4", "exit status 4"),
        ("exit 5", "exit status 5"),
        ("kill -9 $$", f"signal {signal.SIGKILL:d}"),
    ],
)
def test_a_command_that_fails_to_take_the_data_is_an_error(command: str, message: str) -> None:
    with pytest.raises(DataError, match=message), open_writer(f"| {command}") as file:
        for _ in range(100):
            file.write(b"x" * 10_000)


def test_a_command_is_killed_when_the_data_is_incomplete(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_writer(f"| sleep 0.2; cat > {tmp_path / 'x'}; touch {tmp_path / 'done'}"),
    ):
        raise ZeroDivisionError
    assert not (tmp_path / "done").exists()


def test_standard_output_and_input_and_a_reader_that_leaves() -> None:
    code = "from acoustic.kaldi.stream import open_reader, open_writer\n"
    code += "with open_reader('-') as r, open_writer('-') as w:\n"
    copy = subprocess.run(
        [sys.executable, "-O", "-c", f"{code} w.write(r.read(8))"], input=b"abcdefgh", capture_output=True, check=True
    )
    assert copy.stdout == b"abcdefgh"
    endless = f"{code} [w.write(bytes(10000)) for _ in range(10000)]"
    leaves = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" < /dev/null | head -c 10 > /dev/null', sys.executable, endless],
        capture_output=True,
    )
    assert b"ended early" in leaves.stderr and b"Exception ignored" not in leaves.stderr


@pytest.mark.parametrize("token", ["", "a b", "a\n", "a\tb", "\0", "\udc80"])
def test_tokens_that_could_not_be_read_back_are_refused(token: str) -> None:
    with pytest.raises(DataError):
        basic.write_token(io.BytesIO(), token)
