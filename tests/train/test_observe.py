"""What a run tells: probes that change nothing, progress lines, curves, TensorBoard's tags, utilisation."""

from __future__ import annotations

import copy
import logging
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from acoustic.errors import ConfigError
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.artist import CurveArtist
from acoustic.train.board import Board, flat
from acoustic.train.config import TrainConfig, TrainData
from acoustic.train.curves import draw_curves
from acoustic.train.metrics import Metrics
from acoustic.train.observe import Observer, Progress, duration
from acoustic.train.optim import OptimConfig, make_optimizer
from acoustic.train.probe import finite, next_update, unit_shares
from acoustic.train.ranks import Ranks
from acoustic.train.utilisation import make_utilisation
from tests.train.runs import metrics, train_small

PNG = b"\x89PNG"


def network(**options: object) -> SenoneClassifier:
    torch.manual_seed(2)
    return SenoneClassifier(ClassifierConfig(hidden_layers=2, hidden_dim=8, **options), 5, 4)


class FewFrames:
    """As much of a Store as the observer uses."""

    device = torch.device("cpu")
    num_frames = 50

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        return torch.randn(50, 5)[index], torch.randint(0, 4, (50,))[index]


def observer(tmp_path: Path, rank: int = 0, **runtime: object) -> Observer:
    config = TrainConfig(exp_dir=str(tmp_path), train=TrainData(data_dir="a", ali_dir="b"))
    for name, value in runtime.items():
        setattr(config.runtime, name, value)
    return Observer(config, FewFrames(), Ranks(rank, 2 if rank else 1))


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_the_probed_update_is_the_one_the_optimizer_would_make_and_is_not_made(name):
    config = OptimConfig(name=name, max_norm=1.5)
    classifier = network()
    optimizer = make_optimizer(config, classifier.parameters(), [a.weight for a in classifier.hidden_affines])
    inputs, targets = torch.randn(30, 5), torch.randint(0, 4, (30,))

    def update() -> float:
        optimizer.zero_grad()
        functional.cross_entropy(classifier(inputs), targets).backward()
        norm = torch.nn.utils.get_total_norm(parameter.grad for parameter in classifier.parameters())
        optimizer.step()
        return float(norm)

    update()  # so that the optimizer has a memory
    before = copy.deepcopy(classifier.state_dict()), copy.deepcopy(optimizer.state_dict())
    group = optimizer.param_groups[0]
    found = next_update(classifier, optimizer, config, inputs, targets, group["lr"], 0.9)
    assert all(torch.equal(value, before[0][key]) for key, value in classifier.state_dict().items())
    assert str(optimizer.state_dict()) == str(before[1])
    assert found["gradient_norm"] == pytest.approx(update())
    layers = [*classifier.hidden_affines, classifier.output]
    names = ["hidden.0.affine.weight", "hidden.1.affine.weight", "output.weight"]
    for layer, key, ratio in zip(layers, names, found["update_to_weight"], strict=True):
        old = before[0][key]
        assert ratio == pytest.approx(float((layer.weight.detach() - old).norm() / old.norm()), rel=1e-4)


def test_dead_and_saturated_shares():
    classifier = network()
    first = classifier.hidden_affines[0]
    with torch.no_grad():
        first.bias[:2] = -1e6
    inputs = torch.randn(40, 5)
    found = unit_shares(classifier.eval(), inputs)
    output = torch.relu(first(inputs))
    assert found["dead_units"][0] == pytest.approx(float((output == 0).all(0).double().mean()))
    assert found["dead_units"][0] >= 0.25
    assert found["saturated_values"][0] == pytest.approx(float((output == 0).double().mean()))
    sigmoid = unit_shares(network(activation="sigmoid").eval(), 1e4 * inputs)
    assert sigmoid["saturated_values"][0] > 0.9


def test_probes_leave_generator_and_mode_and_are_the_first_ranks(tmp_path):
    classifier = network(dropout=0.5)
    optimizer = make_optimizer(OptimConfig(), classifier.parameters())
    state = torch.get_rng_state()
    seen = observer(tmp_path)
    frames = FewFrames.batch  # draws from the generator: not the observer's doing
    seen._frames = frames(FewFrames(), torch.arange(50))
    torch.set_rng_state(state)
    one = seen.probe(classifier, optimizer, 5, 0.1)
    assert torch.equal(state, torch.get_rng_state())
    assert one == seen.probe(classifier, optimizer, 5, 0.1)
    assert set(one) == {"gradient_norm", "update_to_weight", "dead_units", "saturated_values"}
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert observer(tmp_path, rank=1).probe(classifier, optimizer, 5, 0.1) == {}
    assert finite({"a": float("inf"), "b": [1.0, float("nan")]}) == {"a": None, "b": [1.0, None]}


def test_a_run_tells_it_all(corpus, tmp_path):
    train_small(corpus, tmp_path / "exp")
    last = metrics(tmp_path / "exp")[-1]
    assert len(last["probe"]["update_to_weight"]) == 3 and len(last["probe"]["dead_units"]) == 2
    speed = (tmp_path / "exp" / "speed.jsonl").read_text()
    assert speed.count("frames_per_second") == speed.count("data_wait_share") == 2
    assert (tmp_path / "exp" / "curves.png").read_bytes()[:4] == PNG
    assert not (tmp_path / "exp" / "tensorboard").exists()


def test_log_lines_tell_how_an_interval_goes(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(
        logging.getLogger("acoustic.train.observe"), "info", lambda text, *args: said.append(text % args)
    )
    batches = [(torch.zeros(1), torch.zeros(1))] * 4
    seen = observer(tmp_path, log_seconds=-1.0)
    assert len(list(seen.watch(batches, 4, "epoch 3", lambda: Progress(30.0, 12.0, 20.0, 0.05)))) == 4
    assert said[0].startswith("epoch 3, 1 of 4 batches: loss 1.5000, accuracy 60.00 %, rate 0.05")
    assert len(said) == 3 and said[0].endswith(" left")
    assert 0 <= seen.wait_seconds <= seen.watched_seconds


def test_fewer_batches_than_announced_are_the_end(tmp_path):
    batches = [(torch.zeros(1), torch.zeros(1))]
    assert len(list(observer(tmp_path).watch(batches, 2, "short", lambda: Progress(0, 0, 0, 0)))) == 1


def test_utilisation_of_the_cpu_is_a_share():
    seen = make_utilisation(torch.device("cpu"))
    sum(range(200_000))
    busy = seen.look()
    assert busy is not None and 0 <= busy <= 1


@pytest.mark.parametrize(("seconds", "said"), [(5.4, "5 s"), (125, "2 min"), (7200, "2.0 h")])
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_curves_of_every_kind_of_record(tmp_path):
    probe = {"gradient_norm": 1.0, "update_to_weight": [0.01, None], "dead_units": [0.0], "saturated_values": [0.5]}
    records = [
        {"epoch": 1, "train_loss": 2.0, "dev_loss": None, "learning_rate": 0.0, "probe": probe},
        {"epoch": 1.5, "rolled_back_to": 3},
        {"epoch": 2, "train_loss": 1.0, "dev_loss": 1.5, "dev_accuracy": 0.3, "learning_rate": 0.1, "probe": {}},
    ]
    for number in (0, 1, 3):
        draw_curves(records[:number], tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes()[:4] == PNG


def test_the_last_picture_shows_the_last_record(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    artist = CurveArtist(metrics.path, tmp_path / "curves.png")
    for epoch in range(1, 5):
        metrics.append({"epoch": epoch, "train_loss": 1.0 / epoch})
        artist.draw()
    artist.close()
    draw_curves(metrics.read(), tmp_path / "expected.png")
    assert (tmp_path / "curves.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_picture_that_cannot_be_drawn_is_told(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("acoustic.train.artist"), "warning", lambda text, *args: said.append(text))
    (tmp_path / "metrics.jsonl").write_text("{")
    artist = CurveArtist(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    artist.draw()
    artist.close()
    assert len(said) == 1 and not (tmp_path / "curves.png").exists()


def test_tags_of_tensorboard():
    record = {"step": 7, "train_loss": 2.0, "dev_loss": None, "accepted": True, "probe": {"dead_units": [0.1, None]}}
    assert flat(record) == [("loss/train", 2.0), ("accepted", 1.0), ("probe/dead_units/1", 0.1)]
    assert flat({"step": 7, "seconds": 2.0}, "speed/") == [("speed/seconds", 2.0)]


def test_tensorboard_missing_or_there(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(ConfigError, match=r"acoustic\[tensorboard\]"):
            observer(tmp_path, tensorboard=True)
    pytest.importorskip("tensorboard")
    board = Board(tmp_path / "tensorboard")
    board.write({"step": 3, "train_loss": 1.0})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss/train" in events.read_bytes()
