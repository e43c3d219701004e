"""`acoustic loglikes` from the command line: order, groups, threads and what its summary says."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.main import run
from acoustic.decode.forward import AcousticModel, by_frames
from acoustic.decode.provenance import note_of_table, write_notes
from acoustic.errors import DataError
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.log import real_time_factor
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

LENGTHS = {"d": 30, "b": 1, "a": 50, "e": 7, "c": 300, "f": 2}


@pytest.fixture
def model(tmp_path: Path) -> AcousticModel:
    """An untrained network in tmp_path/final.pt, of features with a frame every 5 ms."""
    torch.manual_seed(0)
    frontend = Frontend(FrontendConfig(cmvn="none", delta_order=0, splice_left=1, splice_right=1), 4)
    bundle = Bundle(
        classifier=SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=8), frontend.input_dim, 6),
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=4,
        fbank_options={"frame_shift": 5.0},
        pdf_counts=torch.arange(1, 7),
    )
    (tmp_path / "final.pt").write_bytes(bundle.to_bytes())
    return AcousticModel(bundle)


@pytest.fixture
def feats(tmp_path: Path) -> dict[str, np.ndarray]:
    """Features of utterances of several lengths in tmp_path/feats, not sorted by name."""
    rng = np.random.default_rng(0)
    matrices = {utt: rng.standard_normal((length, 4)).astype(np.float32) for utt, length in LENGTHS.items()}
    with TableWriter(f"ark:{tmp_path}/feats", "matrix") as writer:
        for utt, matrix in matrices.items():
            writer.write(utt, matrix)
    return matrices


def loglikes(folder: Path, *options: str) -> dict[str, np.ndarray]:
    """What the verb writes."""
    run(["loglikes", "--device=cpu", *options, str(folder), f"ark:{folder}/feats", f"ark:{folder}/out"])
    return dict(read_table(f"ark:{folder}/out", "matrix"))


def test_every_utterance_in_order_whatever_shares_its_pass(
    tmp_path: Path, model: AcousticModel, feats: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoustic.cli.loglikes.by_frames", functools.partial(by_frames, max_frames=60))
    found = loglikes(tmp_path)
    assert list(found) == list(LENGTHS)
    for utt, matrix in feats.items():
        expected = model.loglikes_of_feats(matrix)
        np.testing.assert_allclose(found[utt], expected, atol=1e-5)
    posteriors = loglikes(tmp_path, "--apply-priors=false")
    for utt, matrix in posteriors.items():
        np.testing.assert_allclose(np.exp(matrix).sum(1), np.ones(LENGTHS[utt]), rtol=1e-5)
    scaled, floored = loglikes(tmp_path, "--prior-scale=0.5"), loglikes(tmp_path, "--prior-floor=0.06")
    np.testing.assert_allclose(2 * (posteriors["a"] - scaled["a"]), posteriors["a"] - found["a"], atol=1e-4)
    assert (floored["a"][:, 0] < -1e18).all()  # pdf 0 has 1 of 21 frames
    np.testing.assert_array_equal(floored["a"][:, 1:], found["a"][:, 1:])


def test_the_summary_counts_all_and_takes_frames_as_long_as_they_are(
    tmp_path: Path,
    model: AcousticModel,
    feats: dict[str, np.ndarray],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = []

    def factor(seconds: float, num_frames: int, frame_shift: float) -> str:
        counted.append(num_frames)
        return real_time_factor(seconds, num_frames, frame_shift)

    monkeypatch.setattr("acoustic.cli.loglikes.real_time_factor", factor)
    with caplog.at_level(logging.INFO, "acoustic"):
        loglikes(tmp_path)
    assert counted == [sum(LENGTHS.values())]
    summary = caplog.messages[-1]
    assert summary.startswith("done 6 utterances, skipped 0, ")
    numbers = re.search(r"(\d+) frames/s, real-time factor (\S+) \(frames of 5 ms\)", summary)
    assert numbers is not None
    assert float(numbers[1]) * float(numbers[2]) * 0.005 == pytest.approx(1.0, rel=1e-2)


def test_an_archive_that_cannot_be_read_on_is_an_error(
    tmp_path: Path, model: AcousticModel, feats: dict[str, np.ndarray]
) -> None:
    (tmp_path / "feats").write_bytes((tmp_path / "feats").read_bytes()[:-1])
    with pytest.raises(DataError, match="feats, utterance f"):
        loglikes(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_data_directory_without_features_is_named(tmp_path: Path, model: AcousticModel) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text").write_text("utt words\n")
    with pytest.raises(DataError, match=r"data: has no feats\.scp"):
        run(["loglikes", str(tmp_path), str(tmp_path / "data"), f"ark:{tmp_path}/out"])


def test_loglikes_never_stand_beside_the_note_of_another_network(
    tmp_path: Path, model: AcousticModel, feats: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if this is killed once they are there."""
    out = f"ark:{tmp_path}/out"
    loglikes(tmp_path)
    write_notes(out, {"tree": "of another network"})
    assert note_of_table(out)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("acoustic.cli.loglikes.write_notes", killed)
    with pytest.raises(KeyboardInterrupt):
        loglikes(tmp_path)
    assert (tmp_path / "out").exists()
    assert not note_of_table(out)


def test_threads_and_precision_are_those_asked_for(
    tmp_path: Path, model: AcousticModel, feats: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    exact = loglikes(tmp_path)["c"]
    assert asked == []
    rounded = loglikes(tmp_path, "--num-threads=3", "--precision=bf16")["c"]
    assert asked == [3]
    assert 0 < np.abs(rounded - exact).max() < 0.1
