"""acoustic claims: verdicts, the list of claims, a grid of a few units that goes on where it stopped."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.claims import read_scale
from acoustic.cli.hydra_config import compose_train_config
from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.study import cell as cell_module
from acoustic.study import rates as rates_module
from acoustic.study.cell import Cell
from acoustic.study.claims import BELOW_ZERO, all_claims, relative
from acoustic.study.claims_report import write_report
from acoustic.study.folds import Fold
from acoustic.study.grid import Grid
from acoustic.study.result import Result
from acoustic.study.scale import Scale
from acoustic.study.verdict import Verdict, compare_words, judge
from acoustic.train.config import TrainConfig

SIZES = ["digits", "quick", "paper"]


def made_up(setting: str, fold: int, seed: int) -> Result:
    """A result that depends on its place in the grid alone."""
    rng = np.random.default_rng([ord(letter) for letter in setting] + [fold, seed])
    loss = 1.0 + 0.1 * rng.random()
    return Result(
        "x", [loss + 0.5, loss], loss, 0.6 + 0.1 * rng.random(), 10 + 5 * rng.random(), ["a", "b"], [5, 5],
        rng.integers(0, 3, 2).tolist(), 1.0 + rng.random(), 1e-3, 0.8, 1e-4 * (1 + rng.random()), rng.random(),
        [0.3, 0.4, 0.5, 0.6], {"iy": [0.5, 0.1, 0.97], "er": [0.25 + 0.5 * (seed == 1), 0.2, 0.9]},
    )  # fmt: skip


def made_up_grid(num_folds: int) -> Grid:
    scale = replace(read_scale("quick"), seeds=[1, 2])
    folds = [f"fold{number}" for number in range(num_folds)]
    return Grid(scale, folds, {
        (fold, setting, seed): made_up(setting, number, seed)
        for number, fold in enumerate(folds) for seed in scale.seeds for setting in scale.settings()
    })  # fmt: skip


@pytest.mark.parametrize(
    ("values", "bounds", "verdict"),
    [
        ([-1.0, -1.1, -0.9, -1.05], (-math.inf, 0.0), Verdict.HOLDS),
        ([1.0, 1.1, 0.9, 1.05], (-math.inf, 0.0), Verdict.FAILS),
        ([-1.0, 1.1, -0.9, 1.05], (-math.inf, 0.0), Verdict.UNKNOWN),
        ([80.0, 82.0, 79.0, 81.0], (70.0, 90.0), Verdict.HOLDS),
        ([60.0, 62.0, 59.0, 61.0], (70.0, 90.0), Verdict.FAILS),
        ([-5.0], (-math.inf, 0.0), Verdict.UNKNOWN),
    ],
)
def test_the_interval_decides(values: list[float], bounds: tuple[float, float], verdict: Verdict) -> None:
    assert judge(np.array(values)[:, None], bounds).verdict is verdict


def test_judgement_against_scipy_by_hand() -> None:
    from scipy import stats

    values = np.random.default_rng(3).normal(0.4, 1.0, (6, 3))
    judgement = judge(values, (0.0, math.inf))
    folds = values.mean(1)
    test = stats.ttest_1samp(folds, 0.0)
    interval = test.confidence_interval(0.95)
    assert (judgement.low, judgement.high) == pytest.approx((interval.low, interval.high))
    assert judgement.p_value == pytest.approx(test.pvalue)
    assert judgement.p_wilcoxon == pytest.approx(stats.wilcoxon(values.ravel()).pvalue)
    assert (judgement.num_inside, judgement.num_values) == (int((values > 0).sum()), 18)


def test_what_is_no_comparison_has_no_p_even_if_it_is_the_same_everywhere() -> None:
    judgement = judge(np.zeros((6, 1)), (70.0, 90.0), math.nan)
    assert math.isnan(judgement.p_value) and judgement.verdict is Verdict.FAILS
    assert judge(np.zeros((6, 1)), BELOW_ZERO).p_value == 1.0 and judge(np.ones((6, 1)), BELOW_ZERO).p_value == 0.0


def test_seeds_are_no_folds() -> None:
    one_fold = judge(np.full((1, 20), -1.0) + np.arange(20) / 100, BELOW_ZERO)
    assert one_fold.verdict is Verdict.UNKNOWN and math.isnan(one_fold.p_value) and one_fold.num_inside == 20


def test_words_are_compared_with_all_seeds_of_an_utterance_together() -> None:
    worse = Result("x", utts=["a", "b"], num_words=[10, 10], num_errors=[5, 3]).scores()
    better = Result("x", utts=["a", "b"], num_words=[10, 10], num_errors=[1, 2]).scores()
    comparison = compare_words([worse, worse], [better, better])
    assert comparison.difference == pytest.approx(-25.0) and comparison.probability_of_improvement == 1.0
    alone = compare_words([worse], [better])
    assert (comparison.low, comparison.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("size", SIZES)
def test_every_setting_composes_and_is_needed(size: str) -> None:
    scale = read_scale(size)
    data = ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a"]
    identities = {}
    for setting in scale.settings():
        config = compose_train_config([*scale.overrides(setting, 5), *data])
        width = scale.num_features if setting == "unsupervised" else scale.width
        assert config.seed == 5 and set(config.model.widths) == {width}
        identities[setting] = config.fingerprint()
    assert len(set(identities.values())) == len(identities)
    claims = all_claims()
    assert {setting for claim in claims for setting in claim.settings} == set(identities)
    assert len({claim.name for claim in claims}) == len(claims)


def test_claims_measure_only_the_settings_they_name() -> None:
    everything = made_up_grid(1).of("fold0", 1)
    for claim in all_claims():
        assert math.isfinite(claim.measure({name: everything[name] for name in claim.settings}))
        assert set(claim.compared or ()) <= set(claim.settings)


def test_a_fold_without_word_errors_leaves_a_ratio_open_and_a_report_behind(tmp_path: Path) -> None:
    assert math.isnan(relative(1.0, 0.0)) and relative(1.1, 1.0) == pytest.approx(10.0)
    grid = made_up_grid(3)
    for place in grid.results:
        if place[0] == "fold0" and place[1].startswith("relu"):
            grid.results[place] = replace(grid.results[place], wer=0.0)
    verdicts = write_report(grid, all_claims(), ["About."], tmp_path)
    assert verdicts["leaky-same-wer"] is Verdict.UNKNOWN


def test_the_report_shows_every_claim_and_setting(tmp_path: Path) -> None:
    grid, claims = made_up_grid(3), all_claims()
    verdicts = write_report(grid, claims, ["About."], tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert len(verdicts) == len(claims) and all(claim.text in text for claim in claims)
    assert all(f"| {setting} |" in text for setting in grid.settings if setting != "unsupervised")
    assert "30.00, 40.00, 50.00, 60.00" in text and "| er | 50.0 | 20.0 | 90.0 | 6 |" in text
    assert (tmp_path / "depth.png").exists() and (tmp_path / "optimizers.png").exists()


# -- a grid, trained ---------------------------------------------------------------------------------------------


def arguments(experiment: Path, out_dir: Path) -> list[str]:
    config = out_dir.parent / "fbank.conf"
    config.write_text("--sample-frequency=8000\n--num-mel-bins=40\n--dither=0\n")
    return ["claims", "--quick", "--device=cpu", "--claims=dropout-gradient,unsupervised-1",
            f"--fbank-config={config}", str(experiment), str(out_dir)]  # fmt: skip


def test_a_grid_goes_on_where_it_stopped(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, out_dir = arguments(experiment, tmp_path / "claims"), tmp_path / "claims"
    run([*options, "--num-jobs=1", "--folds=1"])
    times = {path: path.stat().st_mtime_ns for path in out_dir.rglob("result.json")}
    assert len(times) == 3
    run([*options, "--num-jobs=2"])
    results = sorted(out_dir.rglob("result.json"))
    assert len(results) == 6 and all(path.stat().st_mtime_ns == time for path, time in times.items())
    values = {path.parent.name + path.parts[-4]: Result.read(path) for path in results}
    relu, unsupervised = values["relu-4_seed1fold2"], values["unsupervised_seed1fold2"]
    assert (
        0 < relu.pass_seconds < relu.seconds
        and relu.utts
        and relu.dev_loss < math.log(104) + 1
        and 0 < relu.zero_share < 1
        and relu.net_variance == 0
    )
    assert values["relu-dropout_seed1fold2"].net_variance > 0 and relu.gradient_information > 0
    assert len(unsupervised.features_accuracy) == 4 and max(unsupervised.features_accuracy) > 0.01
    assert not list(out_dir.rglob("checkpoints"))
    text = (out_dir / "claims.md").read_text()
    assert "fold1, fold2" in text and "6 trainings" in text
    monkeypatch.setattr(cell_module, "measure", lambda *_: pytest.fail("trained again"))
    run([*options, "--num-jobs=1"])
    with pytest.raises(ConfigError, match="other options"):
        (tmp_path / "other.yaml").write_text(
            (Path(__file__).parents[2] / "conf/claims/quick.yaml").read_text().replace("width: 16", "width: 8")
        )
        run([*(o for o in options if o != "--quick"), "--num-jobs=1", f"--size={tmp_path}/other.yaml"])


def test_divergence_counts_as_knowing_nothing(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*_: object) -> None:
        raise cell_module.TrainingError("loss is nan")

    monkeypatch.setattr(cell_module, "train", diverging)
    options = [*arguments(experiment, tmp_path / "claims"), "--num-jobs=1", "--folds=1", "--claims=zeros"]
    run(options)
    (path,) = (tmp_path / "claims").rglob("result.json")
    result = Result.read(path)
    assert result.diverged == "loss is nan" and result.wer == 100 and result.dev_loss == pytest.approx(math.log(104))
    with pytest.raises(ConfigError, match="options of filter banks"):
        (tmp_path / "fbank.conf").write_text("--sample-frequency=8000\n--num-mel-bins=30\n")
        run(options)
    with pytest.raises(ConfigError, match="another corpus"):
        run([*options, "--graph-dir=exp"])


def test_epochs_without_a_finite_dev_loss(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float | None] = [None, 2.0]

    def made_up_run(config: TrainConfig) -> None:
        for name, keys in (("metrics", "dev_loss dev_accuracy"), ("speed", "seconds")):
            records = [{"step": 1, "seconds": 1.0, "dev_loss": loss, "dev_accuracy": 0.5} for loss in losses]
            lines = [json.dumps({key: record[key] for key in ["step", *keys.split()]}) + "\n" for record in records]
            Path(config.exp_dir).mkdir(parents=True, exist_ok=True)
            (Path(config.exp_dir) / f"{name}.jsonl").write_text("".join(lines))

    monkeypatch.setattr(cell_module, "train", made_up_run)
    ali_dir, scale = experiment / "exp/tri1_ali", read_scale("quick")
    cell = Cell(Fold("fold1", experiment / "data/fold1", tmp_path / "cache", ali_dir, tmp_path), "relu-4", 1)
    result = cell_module.run_cell(cell, scale, tmp_path / "a", compose_train_config, [], decodes=False)
    assert result.dev_losses == pytest.approx([math.log(104), 2.0]) and result.dev_loss == 2.0
    losses[1] = None
    result = cell_module.run_cell(cell, scale, tmp_path / "b", compose_train_config, [], decodes=False)
    assert "finite" in result.diverged and result.dev_loss == pytest.approx(math.log(104))


def test_a_training_begun_with_other_options_is_not_gone_on_with(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(config: TrainConfig) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(cell_module, "train", killed)
    ali_dir, scale = experiment / "exp/tri1_ali", read_scale("quick")
    cell = Cell(Fold("fold1", experiment / "data/fold1", tmp_path / "cache", ali_dir, tmp_path), "relu-4", 1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            cell_module.run_cell(cell, scale, tmp_path, compose_train_config, [])
    with pytest.raises(ConfigError, match="other options"):
        cell_module.run_cell(cell, replace(scale, width=8), tmp_path, compose_train_config, [])


def test_features_judged_by_another_classifier_are_judged_anew(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it is trained is no part of the configuration that the features are trained by."""
    monkeypatch.setattr(cell_module, "measure_features", lambda config, epochs, rate, graph_dir, result: result)
    ali_dir, scale = experiment / "exp/tri1_ali", read_scale("quick")
    fold = Fold("fold1", experiment / "data/fold1", tmp_path / "cache", ali_dir, tmp_path)

    def judged(scale: Scale, setting: str = "unsupervised") -> str:
        result = cell_module.run_cell(Cell(fold, setting, 1), scale, tmp_path, compose_train_config, [])
        return result.fingerprint

    assert judged(scale) == judged(scale)
    for other in (replace(scale, probe_epochs=9), replace(scale, rates=scale.rates | {"probe": 0.9})):
        with pytest.raises(ConfigError, match="other options"):
            judged(other)
        config = Cell(fold, "relu-4", 1).config(other, tmp_path, compose_train_config, [])
        assert Cell(fold, "relu-4", 1).fingerprint(other, config) == config.fingerprint()


@pytest.mark.parametrize("setting", ["relu-4", "unsupervised"])
def test_all_of_a_cell_computes_on_the_threads_that_it_is_given(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Not on those that torch had before: with several trainings at a time that would be all cores for each."""

    def threads_of(number: int) -> int:
        torch.set_num_threads(3)
        runtime, folder = [f"runtime.num_threads={number}"], tmp_path / str(number)
        with pytest.raises(InterruptedError):
            cell_module.run_cell(Cell(fold, setting, 1), read_scale("quick"), folder, compose_train_config, runtime)
        return torch.get_num_threads()

    def stop(*_: object) -> None:
        raise InterruptedError

    for name in ("measure_features", "train"):
        monkeypatch.setattr(cell_module, name, stop)
    fold = Fold("fold1", experiment / "data/fold1", tmp_path, experiment / "exp/tri1_ali", tmp_path)
    before = torch.get_num_threads()
    try:
        assert [threads_of(number) for number in (1, 2)] == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_gpus_are_counted_without_beginning_to_use_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("forked processes could not use CUDA"))
    for num_gpus, device in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=num_gpus: count)
        assert cell_module.device_of("auto") == device and cell_module.device_of("cpu") == "cpu"


def test_rates_are_those_with_the_lowest_dev_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale, asked = replace(read_scale("quick"), rate_factors=[0.3, 1.0, 3.0]), []

    def made_up_loss(cell: Cell, scale: Scale, *_: object, **how: object) -> Result:
        asked.append(cell.setting)
        rates = scale.rates
        return Result("x", dev_loss=abs(math.log(rates["relu"] / 0.06)) + abs(math.log(rates["sgd_sigmoid"] / 2.0)))

    monkeypatch.setattr(rates_module, "run_cell", made_up_loss)
    fold = Fold("fold1", tmp_path, tmp_path, tmp_path, tmp_path)
    settings = ["leaky_relu-2", "sigmoid-sgd"]
    chosen = rates_module.choose_rates(fold, tmp_path, scale, settings, compose_train_config, 1, "cpu")
    assert chosen.rates == {**scale.rates, "relu": pytest.approx(0.06), "sgd_sigmoid": 2.0}
    assert asked == ["relu-4"] * 3 + ["sigmoid-sgd"] * 3
    assert chosen.settings()["leaky_relu-2"][-1] == f"optim.learning_rate={chosen.rates['relu']}"
    kept = rates_module.choose_rates(fold, tmp_path, read_scale("quick"), settings, compose_train_config, 1, "cpu")
    assert kept.rates == scale.rates


@pytest.mark.parametrize(("num_diverged", "chosen"), [(1, 1.0), (2, 0.3), (3, 0.3)])
def test_a_rate_that_diverged_is_not_chosen_though_others_learn_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_diverged: int, chosen: float
) -> None:
    """What diverged stands as a guess, whose loss may be lower than what a network comes to that learns nothing."""
    scale = replace(read_scale("quick"), rate_factors=[0.3, 1.0, 3.0])
    losses = dict(zip((0.3, 1.0, 3.0), (4.9, 4.8, 4.7), strict=True))
    broken = {factor for factor, _ in list(losses.items())[-num_diverged:]}

    def made_up(cell: Cell, tried: Scale, *_: object, **how: object) -> Result:
        factor = round(tried.rates["relu"] / scale.rates["relu"], 3)
        return Result("x", dev_loss=4.6 if factor in broken else losses[factor], diverged="nan" * (factor in broken))

    monkeypatch.setattr(rates_module, "run_cell", made_up)
    fold = Fold("fold1", tmp_path, tmp_path, tmp_path, tmp_path)
    found = rates_module.choose_rates(fold, tmp_path, scale, ["leaky_relu-2"], compose_train_config, 1, "cpu")
    assert found.rates["relu"] == pytest.approx(chosen * scale.rates["relu"])


def test_a_number_of_jobs_or_a_folder_that_cannot_be(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--num-jobs=0"):
        run(["claims", "--num-jobs=0", str(experiment), str(tmp_path / "x")])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/x.* cannot be written"):
        run(["claims", "--num-jobs=1", "--folds=1", str(experiment), str(tmp_path / "file" / "x")])


def test_unknown_names_are_refused(experiment: Path, tmp_path: Path) -> None:
    for option in (
        "--claims=nonsense",
        "--size=nonsense",
        "--folds=9",
        "--folds=1,1",
        "--seeds=x",
        "--seeds=2,2",
        "--seeds=-1",
    ):
        with pytest.raises(ConfigError, match=option.split("=")[0]):
            run(["claims", option, str(experiment), str(tmp_path / "x")])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rates": {"relu": 0.1}}, "rates missing or unknown: adagrad_relu"),
        ({"pretraining": None}, "pretraining missing"),
        ({"widht": 3}, "keys missing or unknown: widht"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "each once"),
    ],
)
def test_faulty_sizes_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scale.from_dict(asdict(read_scale("quick")) | changed, "mine.yaml")


def test_threads_are_no_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_module, "num_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "runtime.num_threads=4" in cell_module.runtime_overrides(2, 0, "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "runtime.num_threads=1" in cell_module.runtime_overrides(2, 0, "cpu")
