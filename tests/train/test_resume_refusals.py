"""What a run is not resumed with: other data, another process at work in its folder, a damaged checkpoint."""

import shutil

import numpy as np
import pytest
import torch

from acoustic.errors import CheckpointError, DataError
from acoustic.fsio import sole_owner
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.loop import Trainer
from acoustic.train.run import train
from tests.train.runs import small_config, train_broken_off, train_small


@pytest.fixture
def own_corpus(corpus, tmp_path):
    """A copy of the corpus that a test may change."""
    root = shutil.copytree(corpus, tmp_path / "corpus", ignore=shutil.ignore_patterns("cache"))
    for scp in root.glob("data/*/*.scp"):
        scp.write_text(scp.read_text().replace(str(corpus), str(root)))
    return root


def stop(*_):
    """Ends a run at the end of its first interval."""
    raise DataError("stopped by the test")


def test_other_features_under_the_same_names_are_refused(own_corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "end_interval", stop)
        with pytest.raises(DataError, match="stopped"):
            train(small_config(own_corpus, tmp_path / "exp"))
    folder = own_corpus / "data" / "train"
    feats = dict(read_table(f"scp:{folder}/feats.scp", "matrix"))
    with TableWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp", "matrix") as writer:
        for number, (utt, matrix) in enumerate(feats.items()):
            writer.write(utt, matrix + np.float32(0.5) * (number == 0) * np.eye(*matrix.shape, dtype=np.float32))
    with pytest.raises(CheckpointError, match=r"began with other data \(train frames differ\)"):
        train(small_config(own_corpus, tmp_path / "exp"))


def test_only_one_process_trains_in_an_exp_dir(corpus, tmp_path):
    with sole_owner(tmp_path / "exp"), pytest.raises(DataError, match="another process is at work"):
        train_small(corpus, tmp_path / "exp")
    train_small(corpus, tmp_path / "exp")


def test_the_run_goes_on_in_the_arithmetic_it_began_with(corpus, tmp_path, monkeypatch):
    def begun_in_bfloat16(name, device):
        return torch.bfloat16

    dtypes = []
    update = Trainer.update

    def noted(trainer, *batch):
        dtypes.append(trainer.dtype)
        update(trainer, *batch)

    monkeypatch.setattr(Trainer, "update", noted)
    with monkeypatch.context() as patched:
        patched.setattr("acoustic.train.run.choose_dtype", begun_in_bfloat16)
        patched.setattr(Trainer, "end_interval", stop)
        with pytest.raises(DataError, match="stopped"):
            train(small_config(corpus, tmp_path / "exp"))
    train(small_config(corpus, tmp_path / "exp"))
    assert set(dtypes) == {torch.bfloat16}


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_run_ends_the_same(corpus, tmp_path, monkeypatch):
    train_small(corpus, tmp_path / "whole")
    save = Checkpoints.save

    def damaging(self, step, state, best_step):
        save(self, step, state, best_step)
        if step == 3:
            (self.path(step) / "state.pt").write_bytes(b"damaged")

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", damaging)
        # SIGTERM in the third update makes the damaged checkpoint the newest.
        train_broken_off(corpus, tmp_path / "broken", patched, 2)
    exp_dirs = (tmp_path / "whole", tmp_path / "broken")
    assert len({(exp_dir / "final.pt").read_bytes() for exp_dir in exp_dirs}) == 1
    assert len({(exp_dir / "metrics.jsonl").read_text() for exp_dir in exp_dirs}) == 1
    assert [item.name for item in (tmp_path / "broken/checkpoints/damaged").iterdir()] == ["step-000000003"]


def test_a_damaged_network_is_made_again_from_the_checkpoints_or_told_of(corpus, tmp_path, caplog):
    options = ("schedule.max_epochs=1", "runtime.curves=false")
    train_small(corpus, tmp_path, *options)
    final = tmp_path / "final.pt"
    whole = final.read_bytes()
    torch.save({"weights": torch.ones(2)}, tmp_path / "no_bundle.pt")
    for damaged in (whole[: len(whole) // 2], (tmp_path / "no_bundle.pt").read_bytes()):
        final.write_bytes(damaged)
        caplog.clear()
        train_small(corpus, tmp_path, *options)
        assert final.read_bytes() == whole
        assert "final.pt: " in caplog.text and "made again from the checkpoints" in caplog.text
    final.write_bytes(whole[:-1])
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"final\.pt: .*remove it to train anew"):
        train(small_config(corpus, tmp_path, *options))
