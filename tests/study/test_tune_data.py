"""acoustic tune: a search whose data change in place does not go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from acoustic.cli.main import run
from acoustic.errors import ConfigError
from acoustic.kaldi.alignments import read_alignments, write_alignments
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.study import tune as tuning
from acoustic.study.space import Space
from tests.study.test_tune import SPACE, TINY


@pytest.fixture
def own_experiment(experiment: Path, tmp_path: Path) -> Path:
    """A copy of the experiment that a test may change."""
    root = shutil.copytree(experiment, tmp_path / "experiment")
    for scp in root.glob("data/fold1/*/feats.scp"):
        scp.write_text(scp.read_text().replace(str(experiment), str(root)))
    return root


def change_features(root: Path) -> None:
    """Other values in the same places; the tables that name them are as before."""
    feats = list(read_table(f"ark:{root}/feats.ark", "matrix"))
    with TableWriter(f"ark:{root}/feats.ark", "matrix") as writer:
        for utt, matrix in feats:
            writer.write(utt, matrix + np.float32(0.5) * np.eye(*matrix.shape, dtype=np.float32))
    for scp in root.glob("data/fold1/*/feats.scp"):
        scp.touch()


def change_alignments(root: Path) -> None:
    """Each a frame shorter."""
    alignments = [(utt, transition_ids[:-1]) for utt, transition_ids in read_alignments(root / "exp/tri1_ali")]
    write_alignments(root / "exp/tri1_ali", alignments, 1)


def change_text(root: Path) -> None:
    """Another word spoken."""
    path = root / "data/fold1/dev/text"
    path.write_text(path.read_text().rstrip() + " one\n")


def test_trials_of_data_that_have_changed_in_place_are_not_compared(
    own_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    monkeypatch.setattr("acoustic.cli.tune.write_report", lambda *_: None)
    (tmp_path / "space.yaml").write_text(SPACE)
    data = [f"{part}.data_dir={own_experiment}/data/{{fold}}/{part}" for part in ("train", "dev")]
    data += [f"{part}.ali_dir={own_experiment}/exp/tri1_ali" for part in ("train", "dev")]
    options = ["--device=cpu", "--folds=fold1", "--objective=dev_wer", f"--graph-dir={own_experiment}/exp/tri1/graph"]
    arguments = ["tune", f"--space={tmp_path}/space.yaml", *options, str(tmp_path / "study"), *data, *TINY]
    search = tmp_path / "study" / "search.json"
    changes: list[Callable[[Path], None]] = [change_features, change_alignments, change_text]
    for num_trials, change in enumerate(changes, 1):
        run([*arguments, f"--trials={num_trials}"])
        change(own_experiment)
        with pytest.raises(ConfigError, match="held before: choose another folder"):
            run([*arguments, f"--trials={num_trials}"])
        older = json.loads(search.read_text())
        del older["contents"]
        search.write_text(json.dumps(older))
    run([*arguments, "--trials=4"])
    assert "contents" in json.loads(search.read_text())


def test_first_networks_and_transforms_that_have_changed_in_place_are_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SimpleNamespace(meta=SimpleNamespace(content_fingerprints=lambda: {"frames": "f"}))
    tensors = {"lda_weight": torch.ones(2, 3)}
    frontend = SimpleNamespace(state_dict=lambda: tensors)
    monkeypatch.setattr(tuning, "prepare", lambda _: SimpleNamespace(train=cache, dev=cache, frontend=frontend))
    search = tuning.Search(Space([], []), tmp_path, [], ["all"])

    def contents(init_sha256: str | None) -> str:
        config: Any = SimpleNamespace(init_sha256=init_sha256)
        return tuning.contents(search, config, "all")

    before = contents(None)
    assert contents(None) == before != contents("0123")
    tensors["lda_weight"] = torch.zeros(2, 3)
    assert contents(None) != before
