"""Matrices and vectors: Kaldi's bytes, exactly, and everything that can be wrong with them."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi.compressed import compress
from acoustic.kaldi.matrix import (
    read_matrix,
    read_matrix_file,
    read_vector,
    read_vector_file,
    write_matrix,
    write_matrix_file,
    write_vector,
    write_vector_file,
)
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.tables import TableWriter, read_table
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors

FEATS = GOLDEN / "feats"


def parse(content: bytes, path: Path, read: Any = read_matrix, binary: bool = True) -> Any:
    path.write_bytes(content)
    with open_reader(path) as reader:
        reader.binary = binary
        return read(reader)


@pytest.mark.parametrize("method", range(1, 8))
def test_compression_equals_kaldis_bit_for_bit(method: int, tmp_path: Path) -> None:
    golden = FEATS / f"fbank40_compress{method}.ark"
    with TableWriter(f"ark:{tmp_path / 'x'}", "matrix", compression_method=method) as writer:
        for utt, matrix in read_table(f"ark:{FEATS / 'fbank40.ark'}", "matrix"):
            writer.write(utt, matrix)
    assert (tmp_path / "x").read_bytes() == golden.read_bytes()


@pytest.mark.parametrize("method", range(1, 8))
def test_expansion_equals_kaldis_bit_for_bit(method: int) -> None:
    ours = dict(read_table(f"ark:{FEATS / f'fbank40_compress{method}.ark'}", "matrix"))
    kaldis = dict(read_table(f"ark:{FEATS / f'fbank40_compress{method}.expanded.ark'}", "matrix"))
    assert list(ours) == list(kaldis) and len(ours) == 6
    for utt, matrix in ours.items():
        assert matrix.dtype == np.float32 and matrix.flags.c_contiguous and matrix.flags.writeable
        np.testing.assert_array_equal(matrix, kaldis[utt])


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (4, 5), (5, 1), (8, 4), (9, 4), (300, 7)])
@pytest.mark.parametrize("method", range(1, 8))
def test_compression_of_any_shape_stays_close(method: int, shape: tuple[int, int], tmp_path: Path) -> None:
    matrix = np.random.default_rng(method).uniform(0, 1, shape).astype(np.float32)
    back = parse(compress(matrix, method), tmp_path / "x")
    step = {1: 0.02, 2: 0.02, 3: 1e-4, 4: 1.0, 5: 0.01, 6: 1.0, 7: 0.01}[method]
    assert back.shape == shape and np.abs(back - matrix).max() <= step


def test_a_constant_matrix_can_be_compressed(tmp_path: Path) -> None:
    for method in (2, 3, 5):
        back = parse(compress(np.full((10, 3), -7.25, np.float32), method), tmp_path / "x")
        np.testing.assert_allclose(back, -7.25, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_cannot_be_compressed(value: float) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        compress(np.full((10, 3), value, np.float32), 2)
    with pytest.raises(DataError, match="cannot be compressed"):
        compress(np.array([[-3e38, 3e38]], np.float32), 3)
    with pytest.raises(DataError, match="no compression method"):
        compress(np.ones((10, 3), np.float32), 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (7, 3)])
def test_kaldiio_and_we_read_each_others_matrices(dtype: Any, shape: tuple[int, int], tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).normal(size=shape).astype(dtype)
    write_matrix_file(tmp_path / "ours", matrix)
    theirs = kaldiio.load_mat(str(tmp_path / "ours"))
    kaldiio.save_mat(str(tmp_path / "theirs"), matrix)
    for back in (theirs, read_matrix_file(tmp_path / "theirs"), read_matrix_file(tmp_path / "ours")):
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, matrix)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kaldiio_and_we_read_each_others_vectors(dtype: Any, tmp_path: Path) -> None:
    vector = np.random.default_rng(1).normal(size=5).astype(dtype)
    write_vector_file(tmp_path / "ours", vector)
    kaldiio.save_mat(str(tmp_path / "theirs"), vector)
    np.testing.assert_array_equal(kaldiio.load_mat(str(tmp_path / "ours")), vector)
    np.testing.assert_array_equal(read_vector_file(tmp_path / "theirs"), vector)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("name", ["feats/cmvn_global.mat", "feats/lda.mat"])
def test_kaldis_matrix_files_are_written_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    content = (GOLDEN / name).read_bytes()
    write_matrix_file(tmp_path / "x", read_matrix_file(GOLDEN / name), binary=content.startswith(b"\0B"))
    assert (tmp_path / "x").read_bytes() == content


def test_a_vector_in_text() -> None:
    priors = read_vector_file(GOLDEN / "nnet3/priors.vec")
    np.testing.assert_allclose(priors[:3], [0.001, 0.002, 0.003])


def test_text_equals_kaldis(tmp_path: Path) -> None:
    utt, matrix = next(iter(read_table(f"ark:{FEATS / 'fbank40.ark'}", "matrix")))
    golden = (FEATS / "fbank40_first.txt").read_bytes()
    file = io.BytesIO()
    write_matrix(file, matrix, binary=False)
    assert f"{utt} ".encode() + file.getvalue() == golden
    (utt_again, back), *rest = read_table(f"ark:{FEATS / 'fbank40_first.txt'}", "matrix")
    assert utt_again == utt and not rest
    np.testing.assert_allclose(back, matrix, rtol=1e-6)


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_infinite_values_and_nan_survive_text(special: float, tmp_path: Path) -> None:
    write_vector_file(tmp_path / "x", np.array([1.0, special]), binary=False)
    np.testing.assert_array_equal(read_vector_file(tmp_path / "x"), [1.0, special])


def test_text_variants(tmp_path: Path) -> None:
    for text, expected in [
        (b" [ 1 2 ; 3 4 ]\n", [[1, 2], [3, 4]]),
        (b"[\n1 2\n3 4\n]\r\n", [[1, 2], [3, 4]]),
        (b"[1 2]\n", [[1, 2]]),
    ]:
        np.testing.assert_array_equal(parse(text, tmp_path / "x", binary=False), expected)
    for text in (b" [ ]\n", b"[]\n"):
        assert parse(text, tmp_path / "x", binary=False).shape == (0, 0)
        assert parse(text, tmp_path / "x", read_vector, binary=False).shape == (0,)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"[ 1 2\n 3 ]\n", read_matrix),
        (b"[ 1 2\n 3 4 ]", read_matrix),
        (b"[ 1 2\n 3 4", read_matrix),
        (b"[ 1 2e ]\n", read_matrix),
        (b"[ 1_0 ]\n", read_matrix),
        (b"[ 0x1 ]\n", read_matrix),
        (b"[ 1e39 ]\n", read_matrix),
        (b"[ 1e999 ]\n", read_vector),
        (b"[ 1\0 ]\n", read_vector),
        (b"[ 1\n2 ]\n", read_vector),
        (b"1 2 ]\n", read_vector),
        (b"", read_vector),
    ],
)
def test_malformed_text_is_refused(text: bytes, read: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, tmp_path / "x", read, binary=False)
    assert caught.value.byte is not None


def size(value: int) -> bytes:
    return struct.pack("<bi", 4, value)


@pytest.mark.parametrize(
    "content",
    [
        b"FM " + size(2**30) + size(2**30) + bytes(100),
        b"FM " + size(-1) + size(4),
        b"FM " + size(0) + size(4),
        b"FM " + size(2**31 - 1) + size(0),
        b"CM " + struct.pack("<ffii", 0, 1, 2**30, 2**30) + bytes(100),
        b"CM2 " + struct.pack("<ffii", 0, 1, -1, -1),
        b"CM3 " + struct.pack("<ffii", 0, 1, 5, 0),
        b"CM2 " + struct.pack("<ffii", math.nan, 1, 1, 1) + bytes(2),
        b"CM3 " + struct.pack("<ffii", 0, math.inf, 1, 1) + bytes(1),
        b"CM " + struct.pack("<ffii", 0, 1, 1, 2) + struct.pack("<8H", 1, 2, 3, 4, 1, 3, 2, 4) + bytes(2),
        b"XM " + size(1) + size(1) + bytes(4),
        b"FV " + size(2**30) + bytes(100),
        b"FV " + size(-1),
    ],
)
def test_lying_headers_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        parse(content, tmp_path / "x", read_vector if content[1:2] == b"V" else read_matrix)


def test_what_is_no_matrix_is_not_written() -> None:
    for value in (np.zeros(3), np.zeros((2, 2), complex), np.array([["a"]])):
        with pytest.raises(DataError):
            write_matrix(io.BytesIO(), value)
    with pytest.raises(DataError):
        write_vector(io.BytesIO(), np.zeros((2, 2)))


def test_strided_and_integer_matrices_are_written_as_floats(tmp_path: Path) -> None:
    write_matrix_file(tmp_path / "x", np.arange(12).reshape(3, 4).T[::2])
    back = read_matrix_file(tmp_path / "x")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, np.arange(12).reshape(3, 4).T[::2])


def test_damage_gives_a_value_or_a_data_error(tmp_path: Path) -> None:
    for name in ("cmvn_global.mat", "lda.mat"):
        assert_only_data_errors((FEATS / name).read_bytes()[:2000], tmp_path / "x", read_matrix_file, 300)
