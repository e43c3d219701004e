"""acoustic tune: searches that go on, trials that fail, pruning, the report."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from acoustic.cli.hydra_config import compose_train_config
from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.study import tune as tuning
from acoustic.study.space import Space
from acoustic.study.tune import Search, open_study

TINY = [
    "model.hidden_layers=1", "model.hidden_dim=6", "schedule=constant", "schedule.max_epochs=2",
    "schedule.warmup_steps=0", "features=fbank_wide", "features.splice_left=1", "features.splice_right=1",
    "data.batch_size=64", "runtime.precision=fp32",
]  # fmt: skip
SPACE = """
overrides: [optim=sgd]
space:
  optim.learning_rate: {low: 0.001, high: 0.1, log: true}
  optim.momentum: {low: 0.0, high: 0.95}
"""
DISTRIBUTIONS = {
    "optim.learning_rate": optuna.distributions.FloatDistribution(0.001, 0.1, log=True),
    "optim.momentum": optuna.distributions.FloatDistribution(0.0, 0.95),
}


@pytest.fixture
def arguments(experiment: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "space.yaml").write_text(SPACE)
    data = [
        f"{key}={experiment}/{place}"
        for key, place in {
            "train.data_dir": "data/fold1/train", "train.ali_dir": "exp/tri1_ali",
            "dev.data_dir": "data/fold1/dev", "dev.ali_dir": "exp/tri1_ali",
        }.items()
    ]  # fmt: skip
    return ["tune", f"--space={tmp_path}/space.yaml", "--device=cpu", str(tmp_path / "study"), *data, *TINY]


def study_of(folder: Path) -> Any:
    return open_study(Search(Space([], []), folder, [], ["all"]))


def test_a_search_goes_on_and_writes_what_it_found(arguments: list[str], tmp_path: Path) -> None:
    run([*arguments, "--trials=3", "--no-pruning"])
    journal = (tmp_path / "study" / "journal.log").read_text()
    run([*arguments, "--trials=6", "--no-pruning", "--num-jobs=2"])
    assert (tmp_path / "study" / "journal.log").read_text().startswith(journal)
    study = study_of(tmp_path / "study")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    first = study.trials[0]
    assert first.user_attrs["hand_set"] and first.params["optim.learning_rate"] == pytest.approx(0.02)
    best = min(study.trials, key=lambda trial: trial.value)
    config = compose_train_config(
        ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a", "experiment=best"], str(tmp_path / "study")
    )
    assert config.optim.learning_rate == pytest.approx(best.params["optim.learning_rate"])
    assert config.model.hidden_dim == 6 and config.schedule.max_epochs == 2
    report = (tmp_path / "study" / "report.md").read_text()
    assert f"Best: trial {best.number}" in report and "| optim.momentum |" in report.split("## Importance")[1]
    assert (tmp_path / "study" / "history.png").exists()
    with pytest.raises(ConfigError, match="another folder"):
        run([*arguments, "model.hidden_dim=5", "--trials=6"])


def test_trials_cut_off_are_begun_again(arguments: list[str], tmp_path: Path) -> None:
    run([*arguments, "--trials=1"])
    study = study_of(tmp_path / "study")
    study.enqueue_trial({"optim.learning_rate": 0.05, "optim.momentum": 0.5})
    cut_off = study.ask()
    assert cut_off.suggest_float("optim.learning_rate", 0.001, 0.1, log=True) == 0.05
    cut_off.suggest_float("optim.momentum", 0.0, 0.95)
    run([*arguments, "--trials=2"])
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[2].params == {"optim.learning_rate": 0.05, "optim.momentum": 0.5}


def test_a_hand_set_trial_begun_again_is_still_the_hand_set_one(arguments: list[str], tmp_path: Path) -> None:
    run([*arguments, "--trials=1"])
    study = study_of(tmp_path / "study")
    params = study.trials[0].params
    (tmp_path / "study" / "journal.log").unlink()
    study = study_of(tmp_path / "study")
    study.enqueue_trial(params, user_attrs={"hand_set": True})
    cut_off = study.ask()
    cut_off.suggest_float("optim.learning_rate", 0.001, 0.1, log=True)
    cut_off.suggest_float("optim.momentum", 0.0, 0.95)
    run([*arguments, "--trials=1"])
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[1].params == params and "set by hand" in (tmp_path / "study" / "report.md").read_text()


def test_the_hand_set_trial_cut_off_before_it_had_values_is_no_random_one(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    run([*arguments, "--trials=1"])
    params = study_of(tmp_path / "study").trials[0].params
    (tmp_path / "study" / "journal.log").unlink()
    study = study_of(tmp_path / "study")
    study.enqueue_trial(params, user_attrs={"hand_set": True})
    study.ask()
    run([*arguments, "--trials=2"])
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == params and study.trials[1].user_attrs["hand_set"]
    assert "2 trials: 2 ended, 0 given up" in (tmp_path / "study" / "report.md").read_text()
    assert "; 2 trials, 1 fold." in (tmp_path / "study" / "experiment" / "best.yaml").read_text()


def test_what_is_left_of_a_journal_that_is_no_more_is_not_taken_for_a_trial(
    arguments: list[str], tmp_path: Path
) -> None:
    left = tmp_path / "study" / "trials" / "0000" / "all"
    left.mkdir(parents=True)
    (left / "final.pt").touch()
    (left / "metrics.jsonl").write_text('{"step": 1, "dev_loss": 0.001}\n')
    run([*arguments, "--trials=1"])
    assert study_of(tmp_path / "study").trials[0].value > 1.0


def test_trials_of_other_frames_have_caches_of_their_own(arguments: list[str], tmp_path: Path) -> None:
    space = SPACE + "  features.norm_vars: {choices: [true, false]}\n  features.splice_left: {choices: [1, 2]}\n"
    (tmp_path / "space.yaml").write_text(space)
    run([*arguments, "--trials=1"])
    (of_hand_set,) = (tmp_path / "study" / "cache" / "all").iterdir()
    before = (of_hand_set / "train").stat().st_ino
    study = study_of(tmp_path / "study")
    for norm_vars, splice_left in ((False, 1), (True, 2)):
        other = {"features.norm_vars": norm_vars, "features.splice_left": splice_left}
        study.enqueue_trial(study.trials[0].params | other)
    run([*arguments, "--trials=3"])
    assert len(list((tmp_path / "study" / "cache" / "all").iterdir())) == 2
    assert (of_hand_set / "train").stat().st_ino == before


def test_given_up_trials_count_among_the_random_ones(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten trials the Gaussian process proposes, though some of these were given up."""
    monkeypatch.setattr(tuning, "run_fold", lambda search, trial, *_: 10.0 + trial.number)
    for num_trials in (9, 10):
        run([*arguments, "--folds=a,b", "--objective=dev_wer", "--graph-dir=graph", f"--trials={num_trials}"])
        study = study_of(tmp_path / "study")
        assert sum("given_up" in trial.user_attrs for trial in study.trials) >= 4
        assert bool(study.ask(DISTRIBUTIONS).relative_params) == (num_trials == 10)
    assert "no override names the fold by {fold}: the 2 folds are the same data" in caplog.text


def test_a_graph_and_dev_data_are_one_and_the_same(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    by_words = [*arguments, "--objective=dev_wer", "--trials=1"]
    run([*by_words, "--graph-dir=one"])
    with pytest.raises(ConfigError, match="another folder"):
        run([*by_words, "--graph-dir=other"])
    path = tmp_path / "study" / "search.json"
    older = json.loads(path.read_text())
    del older["graph_dir"]
    path.write_text(json.dumps(older))
    run([*by_words, "--graph-dir=one"])
    twice = [item.replace("=", "=[x,") + "]" if item.startswith("dev.") else item for item in by_words]
    with pytest.raises(ConfigError, match="one of each"):
        run([*twice, "--graph-dir=one"])


def test_a_search_that_never_trained_does_not_hold_its_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data directory that is misspelt is mended in the same folder."""
    wrong = [item.replace("data/fold1/train", "data/fold1/trian") for item in arguments]
    with pytest.raises(DataError, match="trian"):
        run([*wrong, "--trials=1"])
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    run([*arguments, "--trials=2"])
    assert [trial.state.name for trial in study_of(tmp_path / "study").trials] == ["COMPLETE"] * 2
    with pytest.raises(ConfigError, match="another folder"):
        run([*wrong, "--trials=2"])
    for folds in ("", "a,a", "a,"):
        with pytest.raises(ConfigError, match="--folds=" + folds):
            run([*arguments, f"--folds={folds}"])
    with pytest.raises(ConfigError, match="--seed=-1"):
        run([*arguments, "--seed=-1"])


def test_words_need_dev_data_of_their_own(arguments: list[str], tmp_path: Path) -> None:
    without = [argument for argument in arguments if not argument.startswith("dev.")]
    with pytest.raises(ConfigError, match="--objective=dev_wer decodes dev data"):
        run([*without, "--objective=dev_wer", "--graph-dir=graph", "--trials=1"])
    assert not (tmp_path / "study").exists()


def test_trials_take_the_loop_that_the_optimizer_needs(arguments: list[str], tmp_path: Path) -> None:
    options = ["optim.name=hessian_free", "data.batch_size=4000", "optim.max_cg_iterations=3"]
    run([*arguments, *options, "--trials=1"])
    lines = (tmp_path / "study" / "trials" / "0000" / "all" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["dev_loss"] for line in lines]
    assert losses[0] != losses[1]
    with pytest.raises(ConfigError, match="async_simulation"):
        run([*arguments[:3], str(tmp_path / "other"), *arguments[4:], "train.strategy=async_simulation", "--trials=1"])


def test_divergence_is_a_violated_constraint_and_never_the_best(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_fold = tuning.run_fold

    def sometimes(search: Search, trial: Any, *more: Any) -> float:
        if trial.number == 1:
            raise tuning.TrainingError("dev loss rose")
        return run_fold(search, trial, *more)

    monkeypatch.setattr(tuning, "run_fold", sometimes)
    run([*arguments, "--trials=3"])
    trial = study_of(tmp_path / "study").trials[1]
    assert trial.user_attrs["diverged"] == "dev loss rose" and trial.value == pytest.approx(4.5, abs=1.0)
    assert study_of(tmp_path / "study").best_trial.number != 1
    assert "1 diverged" in (tmp_path / "study" / "report.md").read_text()


def test_a_trial_whose_values_do_not_go_together_is_a_failed_one(arguments: list[str], tmp_path: Path) -> None:
    """optim.momentum=1 is refused; the search goes on, and says why."""
    (tmp_path / "space.yaml").write_text(SPACE.replace("high: 0.95", "high: 1.0"))
    run([*arguments, "--trials=1"])
    study = study_of(tmp_path / "study")
    study.enqueue_trial({"optim.learning_rate": 0.05, "optim.momentum": 1.0})
    run([*arguments, "--trials=3"])
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    failed = study.trials[1]
    assert "momentum" in failed.user_attrs["impossible"] and failed.value == study.trials[0].value
    assert not (tmp_path / "study" / "trials" / "0001").exists()
    report = (tmp_path / "study" / "report.md").read_text()
    assert "3 trials: 2 ended, 0 given up early, 0 diverged, 1 impossible." in report
    assert f"- trial 1 impossible: {failed.user_attrs['impossible']}" in report
    assert study.best_trial.number != 1


@pytest.mark.parametrize(("learning_rate", "num_tried"), [(0.02, 1), (0.5, 3)])
def test_what_no_trial_can_do_ends_the_search(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learning_rate: float, num_tried: int
) -> None:
    """The hand-set trial tells at once; where it is outside the space, some others do."""
    asked = []

    def without_device(search: Search, trial: Any, *_: Any) -> float:
        asked.append(trial.number)
        raise ConfigError("runtime.device=cuda: this machine has no GPU")

    monkeypatch.setattr(tuning, "run_fold", without_device)
    by_words = [*arguments, f"optim.learning_rate={learning_rate}", "--objective=dev_wer", "--graph-dir=graph"]
    with pytest.raises(ConfigError, match="no GPU"):
        run([*by_words, "--trials=9"])
    assert asked == list(range(num_tried))
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    run([*by_words, "--trials=9"])
    assert f"{9 - num_tried + (num_tried == 1)} ended" in (tmp_path / "study" / "report.md").read_text()


def test_if_every_trial_failed_the_reason_is_told(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(*_: Any) -> float:
        raise tuning.TrainingError("dev loss rose")

    monkeypatch.setattr(tuning, "run_fold", diverged)
    with pytest.raises(ConfigError, match=r"no trial ended well \(trial 0 diverged: dev loss rose\)"):
        run([*arguments, "--trials=2"])


def test_trials_worse_than_the_median_are_given_up(arguments: list[str], tmp_path: Path) -> None:
    run([*arguments, "--trials=5"])
    study = study_of(tmp_path / "study")
    study.enqueue_trial({"optim.learning_rate": 0.001, "optim.momentum": 0.0})
    run([*arguments, "--trials=6"])
    last = study.trials[5]
    assert last.user_attrs["given_up"] and list(last.intermediate_values) == [1]
    assert last.value > min(trial.value for trial in study.trials[:5])
    assert "6 trials: 5 ended, 1 given up" in (tmp_path / "study" / "report.md").read_text()
    assert not (tmp_path / "study" / "trials" / "0005" / "all" / "checkpoints").exists()


def test_words_as_objective(arguments: list[str], experiment: Path, tmp_path: Path) -> None:
    folds = ["fold1", "fold2"]
    data = [item.replace("fold1", "{fold}") for item in arguments]
    data = [item.replace("data_dir=" + str(experiment), f"data_dir={tmp_path}") for item in data]
    from acoustic.features.fbank import FbankOptions
    from acoustic.study.folds import Corpus, prepare_fold

    corpus = Corpus(experiment, experiment / "exp/tri1_ali", experiment / "exp/tri1/graph",
                    FbankOptions(sample_frequency=8000, num_mel_bins=40, dither=0.0))  # fmt: skip
    for fold in folds:
        prepared = prepare_fold(corpus, fold, tmp_path)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / fold).symlink_to(prepared.data)
    graph = f"--graph-dir={experiment}/exp/tri1/graph"
    run([*data, f"--folds={','.join(folds)}", "--objective=dev_wer", graph, "--trials=1"])
    trial = study_of(tmp_path / "study").trials[0]
    assert len(trial.user_attrs["folds"]) == 2
    assert trial.value == pytest.approx(sum(trial.user_attrs["folds"]) / 2) and trial.value > 0
    assert json.loads((tmp_path / "study" / "search.json").read_text())["objective"] == "dev_wer"


def test_by_words_a_trial_is_given_up_after_a_fold(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def made_up(search: Search, trial: Any, compose: Any, values: Any, number: int, fold: str, runtime: Any) -> float:
        asked.append((trial.number, fold))
        return [[20.0, 2.0], [30.0, 4.0]][trial.number == 5][number]

    monkeypatch.setattr(tuning, "run_fold", made_up)
    run([*arguments, "--folds=hard,easy", "--objective=dev_wer", "--graph-dir=graph", "--trials=7"])
    trials = study_of(tmp_path / "study").trials
    assert [trial.user_attrs.get("given_up", False) for trial in trials] == [False] * 5 + [True, False]
    assert trials[5].value == pytest.approx(30.0 / 20.0 * 11.0)
    assert [fold for number, fold in asked if number == 5] == ["hard"]
    assert study_of(tmp_path / "study").trials[0].value == pytest.approx(11.0)


def test_given_up_a_trial_is_never_taken_for_better_than_the_best(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [[20.0, 0.0], [14.0, 10.0], [15.0, 11.0], [16.0, 12.0], [13.0, 11.0], [17.0, 17.0]]
    monkeypatch.setattr(
        tuning, "run_fold", lambda search, trial, compose, values, number, *_: words[trial.number][number]
    )
    run([*arguments, "--folds=a,b", "--objective=dev_wer", "--graph-dir=graph", "--trials=6"])
    trials = study_of(tmp_path / "study").trials
    assert trials[5].user_attrs["given_up"] and trials[0].value == 10.0
    assert trials[5].value == pytest.approx(17.0 * 13.0 / 15.0)


def test_processes_ask_for_values_one_after_another(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Gaussian process keeps away from what is being tried, if it knows of it."""
    ask = optuna.study.Study.ask
    locked = []

    def watched(study: Any) -> Any:
        with (tmp_path / "study" / ".turn").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(True)
        return ask(study)

    monkeypatch.setattr(optuna.study.Study, "ask", watched)
    monkeypatch.setattr(tuning, "run_fold", lambda *_: 1.0)
    run([*arguments, "--objective=dev_wer", "--graph-dir=graph", "--trials=2"])
    assert locked == [True, True]


def test_after_the_last_fold_nothing_is_given_up(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "run_fold", lambda search, trial, *_: 10.0 + trial.number)
    run([*arguments, "--objective=dev_wer", "--graph-dir=graph", "--trials=7"])
    trials = study_of(tmp_path / "study").trials
    assert [trial.value for trial in trials] == [10.0 + number for number in range(7)]
    assert not any("given_up" in trial.user_attrs for trial in trials)


def test_what_diverged_is_worth_the_worst_that_ended_and_violates_the_constraint(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_up(search: Search, trial: Any, *_: Any) -> float:
        if trial.number in (2, 4):
            raise tuning.TrainingError("dev loss rose")
        return [5.0, 3.0, 0.0, 9.0][trial.number]

    monkeypatch.setattr(tuning, "run_fold", made_up)
    run([*arguments, "--objective=dev_wer", "--graph-dir=graph", "--trials=5"])
    trials = study_of(tmp_path / "study").trials
    assert [trial.value for trial in trials] == [5.0, 3.0, 5.0, 9.0, 9.0]
    assert [trial.constraints["diverged"] > 0 for trial in trials] == [False, False, True, False, True]
    assert len({trial.params["optim.momentum"] for trial in trials}) == 5  # processes draw apart


def test_a_run_without_a_finite_dev_loss_diverged(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "dev_loss": null}\n')
    with pytest.raises(tuning.TrainingError, match="finite"):
        tuning.best_dev_loss(tmp_path)
    lines = [f'{{"step": {step}, "dev_loss": {loss}}}\n' for step, loss in ((0, 4.0), (5, 1.0), (9, "null"), (14, 2.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert tuning.best_dev_loss(tmp_path) == 1.0
