"""What a cell of the grid is measured on: scales on dev, words on test, features on frames they were not fitted to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.analysis.phones import PhoneSet
from acoustic.cli.claims import read_scale
from acoustic.cli.hydra_config import compose_train_config
from acoustic.errors import ConfigError
from acoustic.features.fbank import FbankOptions
from acoustic.study import cell as cell_module
from acoustic.study import unsupervised
from acoustic.study.cell import Cell
from acoustic.study.folds import Corpus, Fold, claim_folder
from acoustic.study.result import Result
from acoustic.train.config import TrainConfig


def fold_in(folder: Path, ali_dir: Path = Path("ali")) -> Fold:
    return Fold("fold1", folder / "data", folder / "cache", ali_dir, folder / "graph")


def test_scales_are_chosen_on_dev_and_words_counted_on_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class FakeTask:
        def __init__(self, ali_dir: Path, graph_dir: Path) -> None:
            asked.append((ali_dir, graph_dir))

        def tune(self, network: Any, data_dir: Path) -> str:
            asked.append(data_dir)
            return "best scales"

        def score(self, network: Any, data_dir: Path, scales: str) -> Any:
            asked.append((data_dir, scales))
            return Result("x", utts=["a", "b"], num_words=[4, 6], num_errors=[1, 2]).scores()

    monkeypatch.setattr(cell_module, "Task", FakeTask)
    network: Any = None
    result = cell_module.with_words(Result("x"), Cell(fold_in(tmp_path), "relu-4", 1), network)
    data = tmp_path / "data"
    assert asked == [(Path("ali"), tmp_path / "graph"), data / "dev", (data / "test", "best scales")]
    assert result.wer == pytest.approx(30.0) and result.num_errors == [1, 2] and result.num_words == [4, 6]


def test_each_training_has_the_sets_of_its_fold(tmp_path: Path) -> None:
    scale = read_scale("quick")
    config = Cell(fold_in(tmp_path), "relu-4", 7).config(scale, tmp_path / "out", compose_train_config, [])
    assert (config.train.data_dir, config.dev.data_dir) == ([f"{tmp_path}/data/train"], [f"{tmp_path}/data/dev"])
    assert config.train.ali_dir == config.dev.ali_dir == ["ali"] and config.seed == 7
    assert (config.exp_dir, config.data.cache_dir) == (
        f"{tmp_path}/out/fold1/cells/relu-4_seed7", f"{tmp_path}/cache",
    )  # fmt: skip


@pytest.mark.parametrize("changed", ["data/fold1/train/text", "data/fold1/test/utt2spk", "exp/tri1_ali/ali.1.gz",
                                     "exp/tri1_ali/final.mdl", "exp/tri1/graph/HCLG.fst"])  # fmt: skip
def test_results_of_data_that_have_changed_in_place_are_not_taken(
    experiment: Path, tmp_path: Path, changed: str
) -> None:
    root = shutil.copytree(experiment, tmp_path / "corpus")
    corpus = Corpus(root, root / "exp/tri1_ali", root / "exp/tri1/graph", FbankOptions())
    for _ in range(2):
        claim_folder(tmp_path, corpus, "fold1")
    with (root / changed).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="held before"):
        claim_folder(tmp_path, corpus, "fold1")
    values = json.loads((tmp_path / "corpus.json").read_text())
    del values["contents"]  # as folders have it that are older
    (tmp_path / "corpus.json").write_text(json.dumps(values))
    claim_folder(tmp_path, corpus, "fold1")
    assert "contents" in json.loads((tmp_path / "corpus.json").read_text())


def test_loss_and_accuracy_are_those_of_the_network_that_is_kept(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_up_run(config: TrainConfig) -> None:
        folder = Path(config.exp_dir)
        folder.mkdir(parents=True, exist_ok=True)
        dev = [(0, 4.0, 0.1), (10, 2.0, 0.4), (20, 1.0, 0.7), (30, 1.5, 0.8)]
        lines = [json.dumps({"step": step, "dev_loss": loss, "dev_accuracy": share}) for step, loss, share in dev]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        lines = [json.dumps({"step": step, "seconds": seconds}) for step, seconds in ((0, 9.0), (10, 2.0), (20, 4.0))]
        (folder / "speed.jsonl").write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(cell_module, "train", made_up_run)
    cell = Cell(fold_in(tmp_path, experiment / "exp/tri1_ali"), "relu-4", 1)
    result = cell_module.run_cell(cell, read_scale("quick"), tmp_path, compose_train_config, [], decodes=False)
    assert (result.dev_loss, result.dev_accuracy, result.epoch_seconds) == (1.0, 0.7, 3.0)
    assert result.dev_losses == [2.0, 1.0, 1.5]


class FakeStore:
    """Frames of two senones that the first of three values tells apart; `sign` turns the senones round."""

    device, num_pdfs, num_frames = torch.device("cpu"), 2, 512

    def __init__(self, sign: float) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = 100 * torch.randn(self.num_frames, 3, generator=generator) + 50
        self.targets = (sign * (self.inputs[:, 0] - 50) > 0).long()

    def batches(self, size: int, *order: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)


@pytest.mark.parametrize(("sign", "least", "most"), [(1.0, 0.9, 1.0), (-1.0, 0.0, 0.1)])
def test_the_linear_classifier_learns_on_training_frames_and_is_judged_on_dev(
    sign: float, least: float, most: float
) -> None:
    config: Any = SimpleNamespace(seed=1, data=SimpleNamespace(batch_size=64, eval_batch_size=100))
    train_store: Any = FakeStore(1.0)
    dev_store: Any = FakeStore(sign)
    accuracy = unsupervised.linear_accuracy(config, train_store, dev_store, [], [], 3, 0.1)
    assert least <= accuracy <= most


def test_detectors_are_chosen_on_training_frames_and_judged_on_dev(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PhoneSet, "make", lambda *_: SimpleNamespace(names=["a", "b"], group_of=np.zeros(999, dtype=np.int64))
    )
    phones = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    in_training, on_dev = np.zeros((8, 2), dtype=np.float32), np.zeros((8, 2), dtype=np.float32)
    in_training[:3, 1] = 1.0  # the second unit finds all of "a"
    on_dev[:3, 0] = 1.0  # on dev it would be the first
    on_dev[[0, 4], 1] = 1.0  # but the second finds one of three, and one that is none
    monkeypatch.setattr(
        unsupervised, "sampled_units", lambda store, *_: (in_training if store.name == "train" else on_dev, phones)
    )
    config: Any = SimpleNamespace(seed=1, train=SimpleNamespace(ali_dir=[str(experiment / "exp/tri1_ali")]))
    train_store: Any = SimpleNamespace(num_pdfs=104, name="train")
    dev_store: Any = SimpleNamespace(num_pdfs=104, name="dev")
    found = unsupervised.detect_phones(config, train_store, dev_store, [], [], experiment / "exp/tri1/graph")
    assert found["a"] == pytest.approx([1 / 2, 1 / 3, 5 / 8])
