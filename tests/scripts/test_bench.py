"""What the benchmarks count and report; they themselves are run by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib
import itertools
import json
import os
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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

    ours, theirs = way("ours", [9.0, 2.0, 4.0, 6.0]), way("theirs", [9.0, 1.0, 4.0, 3.0])
    result = measure.compare("x", "frames/s", ours, {"them": theirs}, setting(measure, tmp_path), {"ceiling": 8.0})
    assert calls == ["ours", "theirs"] * 4
    json = result.to_json()
    assert (json["value"], json["unit"], json["against"], json["ratio"]) == (4.0, "frames/s", "ceiling", 0.5)
    assert json["comparisons"][1] == {"against": "them", "value": 3.0, "ratio": 2.0}
    assert len(result.lines()) == 3


def test_products_of_an_update_are_three_a_layer_but_two_for_the_first(module) -> None:
    ceilings = module("ceilings")
    net = ceilings.Net(input_dim=3, hidden_layers=1, hidden_dim=5, num_pdfs=7)
    assert ceilings.num_operations(net.forward_products(2)) == 2 * 2 * (3 * 5 + 5 * 7)
    assert ceilings.num_operations(net.training_products(2)) == 2 * 2 * (2 * 3 * 5 + 3 * 5 * 7)


def one_second(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock for a module by which everything takes a second."""
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=itertools.count().__next__))


def test_rates_are_work_a_second(module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, ceilings = module("measure"), module("ceilings")
    for timed in (measure, ceilings):
        one_second(timed, monkeypatch)
    assert measure.rate_of(lambda: None, 6.0)() == 6.0
    here = setting(measure, tmp_path)
    assert ceilings.products_way([(2, 3, 4), (4, 3, 2)], torch.float32, here, 7.0, 5)() == 35.0
    assert ceilings.copy_way(here)() == pytest.approx(4 * 2 * 4 * 2**25 / 1e9)  # four times, read and written
    assert ceilings.best_of(iter([1.0, 3.0, 2.0]).__next__, 2) == 3.0


def test_decoding_counts_the_frames_that_are_decoded(module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verbs, measure, bench = module("verbs"), module("measure"), module("bench")
    monkeypatch.setattr(verbs, "on_path", lambda *programs: False)
    monkeypatch.setattr(verbs, "verb_way", lambda arguments, amount: lambda: amount)
    here = dataclasses.replace(
        setting(measure, tmp_path), decode=("", "", f"ark:{bench.GOLDEN}/decode/tri1/loglikes.ark")
    )
    (result,) = verbs.decode(here)
    written = sum(len(matrix) for _, matrix in verbs.read_table(f"ark:{tmp_path}/decode.loglikes", "matrix"))
    assert result.value == written == 60 * 606


def test_the_trainer_that_is_measured_is_the_one_that_trains(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceilings, training, synthetic = module("ceilings"), module("training"), module("synthetic")
    net = ceilings.Net(input_dim=33, hidden_layers=1, hidden_dim=8, num_pdfs=5)
    cache = synthetic.synthetic_cache(tmp_path / "cache", 1500, 3, net.num_pdfs)
    store = module("acoustic.data.batches").FrameStore(cache, training.make_frontend(3))
    trainer = training.make_trainer(net, torch.float32, store, 64, tmp_path)
    before = trainer.classifier.output.weight.clone()
    way = training.updates_way(trainer.update, training.endless(store, 64), 30, setting(module("measure"), tmp_path))
    one_second(training, monkeypatch)
    assert way() == 30 * 64
    assert trainer.position.step == 30
    assert not torch.equal(before, trainer.classifier.output.weight)


def test_networks_of_the_papers_are_measured_over_an_epoch_or_a_share(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, net = module("published"), module("ceilings").Net
    monkeypatch.setattr(published, "batch_size_of", lambda setting: 2000)
    monkeypatch.setattr(published, "square_way", lambda dtype, setting: lambda: 1.0)
    small = {
        "published_maas": published.Published(net(440, 1, 8, 5), (5, 5)),
        "published_zeiler": published.Published(net(1040, 1, 8, 7), (20, 5), batches=2),
    }
    monkeypatch.setattr(published, "NETS", small)
    monkeypatch.setattr(published, "SHARE", 0.75)
    monkeypatch.setattr(published, "watched", lambda setting: contextlib.nullcontext([0.9, 0.7]))
    whole, share = published.published(setting(module("measure"), tmp_path))
    assert (whole.name, share.name) == ("published_maas_bf16", "published_zeiler_bf16")
    assert "seconds for 9 updates of 2000" in whole.remarks and "seconds for 3 updates of 4000" in share.remarks
    assert whole.value == pytest.approx(18000 / whole.remarks["seconds for 9 updates of 2000"])
    assert [found.against.split(":")[0] for found in share.comparisons] == ["ceiling", "Zeiler et al. 2013"]
    assert share.comparisons[1].ratio == pytest.approx(share.value * 86_400 / 1.2e9)
    assert share.remarks["per cent of the time the device was idle"] == pytest.approx(20.0)
    assert share.remarks["seconds for 300 hours at this rate"] == pytest.approx(300 * 360_000 / share.value)


def test_what_has_been_measured_is_kept_when_the_rest_cannot_go_on(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, measure = module("bench"), module("measure")

    def broken_off(setting: object) -> Iterator[object]:
        yield measure.Result("published_maas_bf16", 4.0, "frames/s", [measure.Comparison("them", 2.0, 2.0)])
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "BENCHES", {"published": broken_off})
    monkeypatch.setattr("sys.argv", ["bench.py", "--device=cpu", "--json", str(tmp_path / "found.json")])
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    assert json.loads((tmp_path / "found.json").read_text())["published_maas_bf16"]["ratio"] == 2.0


def test_networks_of_the_papers_share_the_frames_and_leave_no_trainers(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight times 9 GB of frames would be more than a GPU has."""
    published, net = module("published"), module("ceilings").Net
    monkeypatch.setattr(published, "batch_size_of", lambda setting: 2000)
    monkeypatch.setattr(published, "square_way", lambda dtype, setting: lambda: 1.0)
    shapes = {"a": (net(440, 1, 8, 5), (5, 5)), "b": (net(1040, 1, 8, 7), (20, 5)), "c": (net(440, 1, 8, 7), (5, 5))}
    monkeypatch.setattr(published, "NETS", {name: published.Published(*shape) for name, shape in shapes.items()})
    trainers, frames, dims = [], set(), []
    make_trainer = published.make_trainer

    def watched(net: object, dtype: object, store: Any, *others: object) -> object:
        assert not [trainer for trainer in trainers[:-1] if trainer() is not None]
        trainer = make_trainer(net, dtype, store, *others)
        trainers.append(weakref.ref(trainer))
        frames.add(store._pool.frames.data_ptr())
        dims.append(store.frontend.input_dim)
        return trainer

    monkeypatch.setattr(published, "make_trainer", watched)
    gc.disable()
    try:
        assert len(list(published.published(setting(module("measure"), tmp_path)))) == 3
    finally:
        gc.enable()
    assert len(frames) == 1 and sorted(set(dims)) == [440, 1040]


def test_what_a_benchmark_leaves_behind_is_gone_when_the_next_one_begins(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, left = module("bench"), []

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    def leaves(setting: object) -> list[object]:
        left.append(weakref.ref(Cycle()))
        return []

    def next_one(setting: object) -> list[object]:
        assert left[0]() is None
        return []

    monkeypatch.setattr(bench, "BENCHES", {"one": leaves, "two": next_one})
    monkeypatch.setattr("sys.argv", ["bench.py", "--device=cpu", "--only=one,two"])
    gc.disable()
    try:
        bench.main()
    finally:
        gc.enable()


def test_training_is_measured_without_the_libraries_that_verbs_need(
    module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("verbs", "soundfile"):
        monkeypatch.setitem(sys.modules, name, None)  # whose import fails
    monkeypatch.delitem(sys.modules, "bench", raising=False)
    monkeypatch.setattr("sys.argv", ["bench.py", "--quick", "--device=cpu", "--only=fbank"])
    module("bench").main()
    assert "fbank              not measured: " in capsys.readouterr().out


def test_what_cannot_be_measured_is_told_with_the_reason(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the others are measured all the same."""
    bench, measure = module("bench"), module("measure")

    def without_module(setting: object) -> list[object]:
        raise ModuleNotFoundError("No module named 'torchaudio'")

    def found(setting: Any) -> list[object]:
        assert (setting.quick, setting.num_rounds, setting.device.type) == (True, 3, "cpu")
        return [measure.Result("loglikes", 4.0, "frames/s", [measure.Comparison("them", 2.0, 2.0)])]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    on_gpu = measure.Setting(tmp_path, torch.device("cuda"), True, 3, 0.0, ("", "", ""))
    ranks = functools.partial(lambda setting: module("scaling").ranks(on_gpu))  # would fail, and bench.py with it
    monkeypatch.setattr(bench, "BENCHES", {"fbank": without_module, "scaling_ranks": ranks, "loglikes": found})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["bench.py", "--quick", "--device=cpu", f"--json={tmp_path / 'figures'}"])
    bench.main()
    out = capsys.readouterr().out
    assert "not on PATH, so not compared with: nnet-train-frmshuff, nnet-initialize, nnet-forward" in out
    figures = json.loads((tmp_path / "figures").read_text())
    assert list(figures) == ["fbank", "scaling_ranks", "loglikes"]
    assert figures["fbank"]["not_measured"] == "No module named 'torchaudio'"
    assert figures["scaling_ranks"]["ratio"] is None and figures["scaling_ranks"]["value"] is None
    assert "scaling_ranks      not measured: two ranks need two GPUs, and there is one" in out
    assert figures["loglikes"]["value"] == 4.0 and figures["loglikes"]["ratio"] == 2.0


def test_a_device_that_is_not_here_is_refused_at_once(module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "--device=hpu"])
    with pytest.raises(SystemExit):
        module("bench").parse()


def test_compiled_updates_that_were_given_up_have_no_figure(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, measure = module("training"), module("measure")
    compiled = module("acoustic.train.compiled")

    def fail(*arguments: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled, "compiled", fail)
    monkeypatch.setattr(training, "Net", lambda: module("ceilings").Net(440, 1, 8, 5))
    small = functools.partial(module("synthetic").synthetic_cache, num_frames=2000)
    monkeypatch.setattr(
        training, "synthetic_cache", lambda folder, _, dim, pdfs: small(folder, base_dim=dim, num_pdfs=pdfs)
    )
    monkeypatch.setattr(training, "compare", lambda *arguments: measure.Result("compiled", 1.0, "frames/s"))
    with pytest.raises(measure.NotMeasuredError, match="compiled"):
        training.train_compiled(setting(measure, tmp_path))


@pytest.mark.parametrize(("device", "least_windows"), [("cpu", 0.0), ("cuda", 4.0)])
def test_out_of_core_gives_medians_of_runs_long_enough_to_go_through_windows(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, least_windows: float
) -> None:
    corpora = module("corpora")
    rates = {"windowed": iter([3.0, 1.0, 2.0]), "memory": iter([3.0, 4.0, 2.5])}
    steps = set()

    def run_worker(cache: Path, store: str, num_steps: int, setting: object) -> dict[str, float]:
        steps.add(num_steps)
        return {"rate": next(rates[store]), "resident": 2e9}

    monkeypatch.setattr(corpora, "run_worker", run_worker)
    monkeypatch.setattr(corpora, "synthetic_cache", lambda directory, *sizes: directory.mkdir())
    full = module("measure").Setting(tmp_path, torch.device(device), False, 3, 0.0, ("", "", ""))
    (result,) = corpora.out_of_core(full)
    assert result.value == 2.0 and result.remarks["resident_GB"] == pytest.approx(2.0)
    assert result.comparisons == [module("measure").Comparison("all in memory, 100 hours", 3.0, 0.8)]
    (num_steps,) = steps
    windows = num_steps * (4096 if device == "cuda" else 512) / (16 * 2**18)
    assert result.remarks["windows trained on, while the next one was read"] == pytest.approx(windows)
    assert windows >= least_windows


def test_caches_are_built_of_features_on_the_disk(module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of those that the system holds in memory since they were written; and without removing the last cache."""
    corpora, calls = module("corpora"), []

    def build(cache: Path, *arguments: object, num_jobs: int) -> None:
        assert not cache.exists()
        cache.mkdir()
        calls.append(num_jobs)

    monkeypatch.setattr(corpora, "write_source", lambda directory, *sizes: corpora.Source("data", "ali"))
    monkeypatch.setattr(corpora, "ensure_cache", build)
    monkeypatch.setattr(corpora, "forget_file", lambda path: calls.append(str(path)))
    monkeypatch.setattr(corpora, "disk_rates", lambda setting: (100.0, 200.0))
    monkeypatch.setattr(corpora.os, "sched_getaffinity", lambda process: {0, 1, 2})
    (result,) = corpora.cache_build(setting(module("measure"), tmp_path))
    assert calls == ["data/feats.ark", 3, "data/feats.ark", 1] * 4
    assert [found.against for found in result.comparisons] == ["the disk: reading features, writing frames", "one job"]
    assert result.comparisons[0].value == pytest.approx(1e6 / (160 / 200 + 82 / 100))


def test_one_core_is_shared_by_threads_and_programs(module) -> None:
    measure, before = module("measure"), os.sched_getaffinity(0)
    with measure.on_one_core():
        assert len(os.sched_getaffinity(0)) == 1
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(os.sched_getaffinity, 0).result()) == 1
    assert os.sched_getaffinity(0) == before


def test_the_program_absent_is_named_even_if_another_is_there(module, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "nnet-forward").write_text("")
    (tmp_path / "nnet-forward").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    on_path = module("measure").on_path
    assert on_path("nnet-forward") and not on_path("nnet-forward", "nnet-initialize")
