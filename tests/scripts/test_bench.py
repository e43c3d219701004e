"""What the benchmarks count and report; they themselves are run by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> object:
    """Import a module of scripts/bench by name."""
    monkeypatch.syspath_prepend(str(BENCH))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def setting(measure: ModuleType, directory: Path) -> object:
    return measure.Setting(directory, torch.device("cpu"), True, 3, 0.0, ("", "", ""))


def test_ways_are_measured_in_turns_and_ratios_are_of_one_round(module, tmp_path: Path) -> None:
    measure = module("measure")
    calls = []

    def way(name: str, rates: list[float]) -> object:
        left = iter(rates)

        def measured() -> float:
            calls.append(name)
            return next(left)

        return measured

    ours, theirs = way("ours", [9.0, 2.0, 4.0, 6.0]), way("theirs", [9.0, 1.0, 4.0, 2.0])
    result = measure.compare("x", "frames/s", ours, {"them": theirs}, setting(measure, tmp_path), {"ceiling": 8.0})
    assert calls == ["ours", "theirs"] * 4
    json = result.to_json()
    assert (json["value"], json["unit"], json["against"], json["ratio"]) == (4.0, "frames/s", "ceiling", 0.5)
    assert json["comparisons"][1] == {"against": "them", "value": 2.0, "ratio": 2.0}
    assert len(result.lines()) == 3


def test_products_of_an_update_are_three_a_layer_but_two_for_the_first(module) -> None:
    ceilings = module("ceilings")
    net = ceilings.Net(input_dim=3, hidden_layers=1, hidden_dim=5, num_pdfs=7)
    assert ceilings.num_operations(net.forward_products(2)) == 2 * 2 * (3 * 5 + 5 * 7)
    assert ceilings.num_operations(net.training_products(2)) == 2 * 2 * (2 * 3 * 5 + 3 * 5 * 7)


def test_the_trainer_that_is_measured_is_the_one_that_trains(module, tmp_path: Path) -> None:
    ceilings, training, synthetic = module("ceilings"), module("training"), module("synthetic")
    net = ceilings.Net(input_dim=33, hidden_layers=1, hidden_dim=8, num_pdfs=5)
    cache = synthetic.synthetic_cache(tmp_path / "cache", 1500, 3, net.num_pdfs)
    store = module("acoustic.data.batches").FrameStore(cache, training.make_frontend(3))
    trainer = training.make_trainer(net, torch.float32, store, 64, tmp_path)
    before = trainer.classifier.output.weight.clone()
    way = training.updates_way(trainer.update, training.endless(store, 64), 30, setting(module("measure"), tmp_path))
    assert way() > 0
    assert trainer.position.step == 30
    assert not torch.equal(before, trainer.classifier.output.weight)


def test_networks_of_the_papers_are_measured_over_an_epoch_or_a_share(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, net = module("published"), module("ceilings").Net
    monkeypatch.setattr(published, "batch_size_of", lambda setting: 2000)
    monkeypatch.setattr(published, "square_way", lambda dtype, setting: lambda: 1.0)
    small = {
        "published_whole": published.Published(net(440, 1, 8, 5), (5, 5), 1.0),
        "published_zeiler": published.Published(net(1040, 1, 8, 7), (20, 5), 0.5),
    }
    monkeypatch.setattr(published, "NETS", small)
    whole, share = published.published(setting(module("measure"), tmp_path))
    assert (whole.name, share.name) == ("published_whole_bf16", "published_zeiler_bf16")
    assert "seconds for 9 updates of 2000" in whole.remarks and "seconds for 4 updates of 2000" in share.remarks
    assert whole.value == pytest.approx(18000 / whole.remarks["seconds for 9 updates of 2000"])
    assert [found.against.split(":")[0] for found in share.comparisons] == ["ceiling", "Zeiler et al. 2013"]
    assert share.comparisons[1].ratio == pytest.approx(share.value * 86_400 / 1.2e9)


def test_ranks_are_not_measured_where_there_is_one_gpu(module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fail there, and with them the whole bench.py."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    on_gpu = module("measure").Setting(tmp_path, torch.device("cuda"), True, 3, 0.0, ("", "", ""))
    assert module("scaling").ranks(on_gpu) == []
    assert not list(tmp_path.iterdir())
