"""Front ends of real systems from the training command to loglikes: all that they are made of is in final.pt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.main import run
from acoustic.decode.forward import AcousticModel
from acoustic.errors import ConfigError
from acoustic.features.cmvn import sliding_cmvn
from acoustic.features.lda import LdaStats
from acoustic.features.splice import splice
from acoustic.kaldi.alignments import read_alignments, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.matrix import read_matrix_file, write_matrix_file
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table

GOLDEN = Path(__file__).parent.parent / "golden"
DEV_SPEAKER = "engb_f5"
SMALL = [
    "model.hidden_layers=1", "model.hidden_dim=4", "schedule=constant", "schedule.max_epochs=1", "data.dtype=float32",
    "runtime.precision=fp32", "runtime.num_threads=1",
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Iterator[Path]:
    """Kaldi's MFCCs and alignments of six utterances, one speaker for dev, with statistics and transforms."""
    speaker_of = DataDir.read(GOLDEN / "wav").utt2spk
    for name in ("train", "dev"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        chosen = {utt: spk for utt, spk in speaker_of.items() if (spk == DEV_SPEAKER) == (name == "dev")}
        with TableWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp", "matrix") as writer:
            for utt, feats in read_table(f"ark:{GOLDEN}/feats/mfcc13.ark", "matrix"):
                if utt in chosen:
                    writer.write(utt, feats)
        with TableWriter(f"ark,scp:{folder}/cmvn.ark,{folder}/cmvn.scp", "matrix") as writer:
            for speaker, stats in read_table(f"ark:{GOLDEN}/fmllr/cmvn_mfcc13_spk.ark", "matrix"):
                if speaker in chosen.values():
                    writer.write(speaker, stats)
        DataDir(utt2spk=chosen, feats=DataDir.read(folder).feats, cmvn=DataDir.read(folder).cmvn).write(folder)
    ali = shutil.copytree(GOLDEN / "align" / "mono", tmp_path / "ali")
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "mono" / name, ali)
    exp = tmp_path / "tri"
    exp.mkdir()
    (exp / "cmvn_opts").write_text("--norm-means=true\n")
    (exp / "splice_opts").write_text("--left-context=4 --right-context=4\n")
    shutil.copy(GOLDEN / "feats" / "lda.mat", exp / "final.mat")
    yield tmp_path


def train(corpus: Path, *overrides: str) -> AcousticModel:
    """Train for an epoch on the corpus."""
    run(
        [
            "train", f"exp_dir={corpus}/exp", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
            f"dev.data_dir={corpus}/data/dev", f"dev.ali_dir={corpus}/ali", *SMALL, *overrides,
        ]
    )  # fmt: skip
    return AcousticModel.load(corpus / "exp")


def with_transforms(corpus: Path, owner: str = "speaker") -> list[str]:
    """Overrides for LDA and fMLLR as the experiment has them."""
    directory = GOLDEN / "fmllr" / owner
    return [
        "features=kaldi", f"features.kaldi_dir={corpus}/tri", f"features.fmllr={owner}",
        f"train.transform_dir={directory}", f"dev.transform_dir={directory}",
    ]  # fmt: skip


def test_lda_and_fmllr_of_an_experiment(corpus: Path) -> None:
    model = train(corpus, *with_transforms(corpus))
    config = model.frontend.config
    assert (config.cmvn, config.norm_vars, config.transform_dim, config.fmllr) == ("speaker", False, 40, "speaker")
    assert (model.frontend.base_dim, model.frontend.input_dim) == (40, 440)
    expected = dict(read_table(f"ark:{GOLDEN}/fmllr/base_speaker.ark", "matrix"))["engb_f5-001"]
    out = corpus / "loglikes.ark"
    run(["loglikes", f"--fmllr={GOLDEN}/fmllr/speaker", f"{corpus}/exp", f"{corpus}/data/dev", f"ark:{out}"])
    loglikes = dict(read_table(f"ark:{out}", "matrix"))["engb_f5-001"]
    np.testing.assert_allclose(loglikes, model.loglikes([torch.from_numpy(expected)])[0], atol=1e-3)
    with RandomAccessTable(f"scp:{corpus}/data/dev/cmvn.scp", "matrix") as cmvn:
        stats = torch.from_numpy(cmvn[DEV_SPEAKER])
    feats = dict(read_table(f"scp:{corpus}/data/dev/feats.scp", "matrix"))["engb_f5-001"]
    transform = dict(read_table(f"ark:{GOLDEN}/fmllr/speaker/trans.2", "matrix"))[DEV_SPEAKER]
    np.testing.assert_allclose(model.loglikes_of_feats(feats, stats, torch.from_numpy(transform)), loglikes, atol=1e-4)
    with pytest.raises(ConfigError, match="no transforms are given"):
        run(["loglikes", f"{corpus}/exp", f"{corpus}/data/dev", f"ark:{out}"])


def test_transforms_by_utterance(corpus: Path) -> None:
    directory = corpus / "trans"
    directory.mkdir()
    with TableWriter(f"ark:{directory}/trans.1", "matrix") as writer:
        for utt in DataDir.read(GOLDEN / "wav").utt2spk:
            writer.write(utt, np.hstack([np.eye(40), np.ones((40, 1))]).astype(np.float32))
    model = train(
        corpus, *with_transforms(corpus, "utterance")[:3],
        f"train.transform_dir={directory}", f"dev.transform_dir={directory}",
    )  # fmt: skip
    assert model.frontend.config.fmllr == "utterance"


def test_training_on_a_part_still_finds_its_transforms(corpus: Path) -> None:
    """Without dev data, held-out speakers come with the transforms of the training data."""
    overrides = [text for text in with_transforms(corpus) if not text.startswith("dev.")]
    run(
        ["train", f"exp_dir={corpus}/exp", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
         *SMALL, *overrides]
    )  # fmt: skip
    assert AcousticModel.load(corpus / "exp").frontend.base_dim == 40


def test_deltas_are_taken_where_the_experiment_has_no_matrix(corpus: Path) -> None:
    (corpus / "tri" / "final.mat").unlink()
    (corpus / "tri" / "delta_opts").write_text("--delta-order=1\n")
    config = train(corpus, "features=kaldi", f"features.kaldi_dir={corpus}/tri").frontend.config
    assert (config.delta_order, config.transform_dim, config.splice_left) == (1, 0, 5)
    text = (corpus / "exp" / "config.yaml").read_text()
    assert "delta_order: 1" in text


def spliced_frames(corpus: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of a set spliced 3+3 and their pdf ids."""
    pdf_of = read_model(corpus / "ali").pdf_of
    alignments = dict(read_alignments(corpus / "ali"))
    frames, labels = [], []
    for utt, feats in read_table(f"scp:{corpus}/data/{name}/feats.scp", "matrix"):
        frames.append(splice(torch.from_numpy(feats), 3, 3))
        labels.append(torch.from_numpy(pdf_of[alignments[utt]]))
    return torch.cat(frames), torch.cat(labels)


def test_lda_is_estimated_on_training_frames(corpus: Path) -> None:
    model = train(
        corpus, "features.cmvn=none", "features.norm_vars=false", "features.delta_order=0", "features.splice_left=3",
        "features.splice_right=3", "features.lda_dim=20", "features.global_norm=false",
    )  # fmt: skip
    assert model.frontend.input_dim == 20 and model.classifier.input_dim == 20
    frames, labels = spliced_frames(corpus, "train")
    stats = LdaStats(model.num_pdfs, frames.shape[1])
    stats.accumulate(frames, labels)
    assert model.frontend.lda_weight is not None
    torch.testing.assert_close(model.frontend.lda_weight, stats.estimate(20), rtol=1e-4, atol=1e-4)
    run(["loglikes", f"{corpus}/exp", f"{corpus}/data/dev", f"ark:{corpus}/l.ark"])


def test_matrices_from_files(corpus: Path) -> None:
    rng = np.random.default_rng(0)
    lda = rng.standard_normal((10, 120)).astype(np.float32)
    write_matrix_file(corpus / "lda.mat", lda)
    model = train(
        corpus, "features.cmvn=none", "features.norm_vars=false", "features.delta_order=0",
        f"features.transform_mat={corpus}/tri/final.mat", "features.transform_splice_left=4",
        "features.transform_splice_right=4", "features.splice_left=1", "features.splice_right=1",
        f"features.lda_mat={corpus}/lda.mat", "features.global_norm=false",
    )  # fmt: skip
    feats = torch.from_numpy(dict(read_table(f"scp:{corpus}/data/dev/feats.scp", "matrix"))["engb_f5-001"])
    base = splice(feats, 4, 4) @ torch.from_numpy(read_matrix_file(corpus / "tri" / "final.mat")).t()
    expected = splice(base, 1, 1) @ torch.from_numpy(lda).t()
    ours = model.frontend.utterance(model.frontend.per_utterance(feats))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)


def test_global_and_sliding_cmvn(corpus: Path) -> None:
    shutil.copytree(corpus / "data", corpus / "again" / "data")
    shutil.copytree(corpus / "ali", corpus / "again" / "ali")
    model = train(corpus, "features.cmvn=global")
    frames = np.concatenate([m for _, m in read_table(f"scp:{corpus}/data/train/feats.scp", "matrix")])
    feats = dict(read_table(f"scp:{corpus}/data/dev/feats.scp", "matrix"))["engb_f5-001"]
    expected = (feats - frames.mean(0)) / frames.std(0)
    np.testing.assert_allclose(model.frontend.per_utterance(torch.from_numpy(feats)), expected, atol=1e-3)
    sliding = train(corpus / "again", "features.cmvn=sliding", "features.cmvn_window=100", "features.norm_vars=false")
    ours = sliding.frontend.per_utterance(torch.from_numpy(feats))
    torch.testing.assert_close(ours, sliding_cmvn(torch.from_numpy(feats), 100, 100, center=True))


def test_other_transforms_make_another_cache(corpus: Path) -> None:
    directory = shutil.copytree(GOLDEN / "fmllr" / "speaker", corpus / "trans")
    arguments = [
        f"exp_dir={corpus}/exp", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
        f"dev.data_dir={corpus}/data/dev", f"dev.ali_dir={corpus}/ali", "features=kaldi",
        f"features.kaldi_dir={corpus}/tri", "features.fmllr=speaker", f"train.transform_dir={directory}",
        f"dev.transform_dir={directory}",
    ]  # fmt: skip
    meta = corpus / "exp" / "cache" / "train" / "meta.json"
    keys = []
    for change in (False, False, True):
        if change:
            transforms = dict(read_table(f"ark:{directory}/trans.1", "matrix"))
            with TableWriter(f"ark:{directory}/trans.1", "matrix") as writer:
                for owner, matrix in transforms.items():
                    writer.write(owner, 2 * matrix)
        run(["cache", *arguments])
        keys.append((meta.read_text(), meta.stat().st_mtime_ns))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features.kaldi_dir={}/tri", "features.transform_mat={}/tri/final.mat"], "give one of them"),
        (["features.transform_mat={}/tri/final.mat", "features.transform_dim=30"], "transform_dim=30.*40 rows"),
        (["features.transform_dim=30"], "without features.transform_mat"),
        (["features.lda_mat={}/tri/final.mat", "features.lda_dim=30"], "lda_dim=30.*40 rows"),
        (["features.kaldi_dir={}/tri", "train.transform_dir={}/trans"], "fmllr=none"),
        (["features.kaldi_dir={}/tri", "features.fmllr=speaker"], "no transforms are given"),
        (["train.transform_dir=[a,b,c]"], "1 data directories but 3 transform directories"),
    ],
)
def test_contradictions_are_said(corpus: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(corpus, "features=kaldi", *(override.format(corpus) for override in overrides))
