"""`acoustic info` on what a training run writes, finished and not."""

import pytest

from acoustic.cli.main import run
from acoustic.errors import CheckpointError, DataError
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.loop import Trainer
from acoustic.train.run import train
from tests.train.runs import small_config


@pytest.fixture
def exp_dir(corpus, tmp_path, monkeypatch):
    """A run that ended after its first checkpoint."""

    def stop(*_):
        raise DataError("stopped by the test")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "end_interval", stop)
        with pytest.raises(DataError):
            train(small_config(corpus, tmp_path / "exp"))
    return tmp_path / "exp"


def told(path, capsys):
    run(["info", str(path)])
    return capsys.readouterr().out


def test_an_unfinished_run_then_a_finished_one(corpus, exp_dir, capsys):
    text = told(exp_dir, capsys)
    assert "unfinished training run with 1 checkpoints" in text and "train alignments " in text
    train(small_config(corpus, exp_dir))
    text = told(exp_dir, capsys)
    assert "trained network of" in text and "transition_model" in text
    step = Checkpoints(exp_dir / "checkpoints").steps()[-1]
    text = told(exp_dir / "checkpoints" / f"step-{step:09d}", capsys)
    assert f"checkpoint after {step} updates, 2 dev evaluations" in text and "torch.float32" in text


def test_a_damaged_checkpoint_is_not_described(exp_dir, capsys):
    (exp_dir / "checkpoints" / "step-000000000" / "state.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        told(exp_dir, capsys)
