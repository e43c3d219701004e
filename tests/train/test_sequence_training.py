"""acoustic train-sequence on the corpus of six utterances, with lattices of the included decoder."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from acoustic.cli.hydra_config import compose_sequence_config
from acoustic.cli.main import run
from acoustic.cli.train import claim_exp_dir
from acoustic.errors import ConfigError, DataError, PreemptedError
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.nn.bundle import load_bundle
from acoustic.sequence import lattice_criteria
from acoustic.train.loop import Trainer
from tests.train.runs import metrics, same_weights, train_small

GOLDEN = Path(__file__).parents[1] / "golden"
SILENCE = "criterion.silence_phones=[1,2,3,4,5]"


@pytest.fixture(scope="module")
def system(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained by cross-entropy for a few epochs, and its lattices of training and dev data."""
    root = tmp_path_factory.mktemp("system")
    train_small(corpus, root / "ce", "optim.learning_rate=0.1", "schedule.max_epochs=8", "model.hidden_dim=24")
    for name in ("train", "dev"):
        loglikes = f"ark:{root}/{name}.ark"
        run(["loglikes", str(root / "ce"), str(corpus / "data" / name), loglikes])
        (root / f"lat_{name}").mkdir()
        run(
            ["lattices", "--beam=30", "--lattice-beam=6", "--num-jobs=1", str(GOLDEN / "model/mono/final.mdl"),
             str(GOLDEN / "graph/mono/HCLG.fst"), loglikes, f"ark:{root}/lat_{name}/lat.1.gz"]
        )  # fmt: skip
    return root


def arguments(corpus: Path, system: Path, exp_dir: Path, *overrides: str) -> list[str]:
    return [
        f"exp_dir={exp_dir}", f"init_from={system}/ce", f"train.data_dir={corpus}/data/train",
        f"train.ali_dir={corpus}/ali", f"train.lat_dir={system}/lat_train", f"dev.data_dir={corpus}/data/dev",
        f"dev.ali_dir={corpus}/ali", f"dev.lat_dir={system}/lat_dev", f"data.cache_dir={corpus}/cache",
        "runtime.precision=fp32", "runtime.num_threads=1", "runtime.device=cpu", "schedule.max_epochs=3", *overrides,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        ["criterion=smbr", SILENCE, "optim.learning_rate=2e-2"],
        ["criterion=mpe", SILENCE, "optim.learning_rate=2e-2", "data.batch_size=2"],
        ["criterion=mmi", "optim.learning_rate=1e-3", "f_smoothing=0.1"],
        ["criterion=bmmi", SILENCE, "optim.learning_rate=1e-3", "criterion.boost=0.5"],
    ],
)
def test_the_criterion_improves_on_training_and_dev_data(
    corpus: Path, system: Path, tmp_path: Path, overrides: list[str]
) -> None:
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *overrides)])
    lines = metrics(tmp_path / "exp")
    assert len(lines) == 3 and lines[-1]["train_loss"] < lines[0]["train_loss"]
    before, after = load_bundle(system / "ce"), load_bundle(tmp_path / "exp")
    assert not same_weights(before, after) and after.frontend_config == before.frontend_config
    assert torch.equal(before.pdf_counts, after.pdf_counts)
    if "mp" not in overrides[0]:
        assert lines[0]["train_loss"] > 0


def test_hessian_free_updates_improve_the_criterion(corpus: Path, system: Path, tmp_path: Path) -> None:
    overrides = ["criterion=smbr", SILENCE, "optim=hessian_free", "data.batch_size=5", "optim.curvature_fraction=1",
                 "optim.max_cg_iterations=10", "model.dropout=0.5"]  # fmt: skip
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *overrides)])
    losses = [line["train_loss"] for line in metrics(tmp_path / "exp")]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True) and losses[2] < 0.95 * losses[0]


def test_a_killed_run_goes_on_to_the_same_bits(
    corpus: Path, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(name: str) -> None:
        overrides = ["criterion=smbr", SILENCE, "optim.learning_rate=1e-2", "model.dropout=0.2"]
        run(["train-sequence", *arguments(corpus, system, tmp_path / name, *overrides)])

    start("whole")
    update = Trainer.update

    def with_signal(trainer: Trainer, *batch: torch.Tensor) -> None:
        if trainer.position.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        update(trainer, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", with_signal)
        with pytest.raises(PreemptedError):
            start("broken")
    start("broken")
    assert same_weights(load_bundle(tmp_path / "whole"), load_bundle(tmp_path / "broken"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")


def test_utterances_without_a_lattice_are_counted(
    corpus: Path, system: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lat_dir = tmp_path / "lat"
    lat_dir.mkdir()
    lattices = list(read_table(f"ark:{system}/lat_train/lat.1.gz", "lattice"))
    with TableWriter(f"ark,scp:{lat_dir}/lat.ark,{lat_dir}/lat.scp", "lattice") as writer:
        for utt, lattice in lattices[1:]:
            writer.write(utt, lattice)
    overrides = [f"train.lat_dir={lat_dir}", "criterion=mmi", "schedule.max_epochs=1"]
    with pytest.raises(DataError, match=r"1 of 5 training utterances skipped.*no lattice"):
        run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *overrides)])
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *overrides, "data.max_skip_fraction=0.3")])
    assert metrics(tmp_path / "exp")[-1]["step"] == 4
    shutil.rmtree(lat_dir)
    lat_dir.mkdir()
    with pytest.raises(DataError, match="no lattices here"):
        run(["train-sequence", *arguments(corpus, system, tmp_path / "other", *overrides)])


def test_cross_entropy_beside_a_criterion_has_smoothed_targets(corpus: Path, system: Path, tmp_path: Path) -> None:
    bundles = []
    for name, overrides in {"plain": [], "smoothed": ["optim.label_smoothing=0.5"]}.items():
        options = ["criterion=mmi", "f_smoothing=0.5", "optim.learning_rate=1e-3", "schedule.max_epochs=1", *overrides]
        run(["train-sequence", *arguments(corpus, system, tmp_path / name, *options)])
        bundles.append(load_bundle(tmp_path / name))
    assert not same_weights(*bundles)


def test_frames_without_gradient_are_counted(
    corpus: Path, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mmi = lattice_criteria.mmi
    monkeypatch.setattr(lattice_criteria, "mmi", lambda *arguments: (*mmi(*arguments)[:2], 3.0))
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", "criterion=mmi", "schedule.max_epochs=1")])
    log = (tmp_path / "exp" / "train.log").read_text()
    assert "WARNING training dropped frames: 15\n" in log and "WARNING dev dropped frames: 3\n" in log


@pytest.mark.parametrize("name", ["dahl2013_smbr", "vesely2013_smbr", "smbr", "lfmmi"])
def test_a_small_run_of_each_experiment(corpus: Path, system: Path, tmp_path: Path, name: str) -> None:
    options = [f"experiment={name}", "schedule.max_epochs=2", *([] if name == "lfmmi" else [SILENCE])]
    if name == "dahl2013_smbr":
        options.append("optim.max_cg_iterations=5")
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *options)])
    losses = [line["train_loss"] for line in metrics(tmp_path / "exp")]
    assert len(losses) == 2 and losses[1] < losses[0] and (tmp_path / "exp" / "final.pt").exists()


def test_frames_on_disk_train_alike_and_are_warned_of(corpus: Path, system: Path, tmp_path: Path) -> None:
    """They are read anew for every batch: right, but slow, which nobody should have to find out."""
    for store in ("memory", "windowed"):
        options = ["criterion=mmi", "optim.learning_rate=1e-3", "schedule.max_epochs=1", f"data.store={store}"]
        run(["train-sequence", *arguments(corpus, system, tmp_path / store, *options)])
        told = (tmp_path / store / "train.log").read_text()
        assert ("training frames stay on disk" in told) == (store == "windowed")
    assert same_weights(load_bundle(tmp_path / "memory"), load_bundle(tmp_path / "windowed"))


def test_accuracies_without_silence_phones_are_warned_of(corpus: Path, system: Path, tmp_path: Path) -> None:
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", "criterion=smbr", "schedule.max_epochs=1")])
    assert "WARNING no criterion.silence_phones" in (tmp_path / "exp" / "train.log").read_text()


def test_silence_phones_that_the_model_does_not_have_are_refused(corpus: Path, system: Path, tmp_path: Path) -> None:
    """Those of another lang directory: what they are meant to be would count as speech, unsaid."""
    options = ["criterion=smbr", "criterion.silence_phones=[0,1,5,99]"]
    with pytest.raises(
        ConfigError, match=r"criterion\.silence_phones: final\.mdl in .*ali has no phone 0, 99 \(it has 1 "
    ):
        run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *options)])


@pytest.mark.parametrize(
    ("options", "other"),
    [
        (["criterion=lfmmi"], "criterion.boost=0.1"),
        (["criterion=lfsmbr"], "criterion.leaky_coefficient=0.5"),
        (["criterion=lfmmi", "criterion.numerator=graph", "train.graph_dir=graphs"], "criterion.tolerance=7"),
        (["criterion=mmi", "train.lat_dir=lats"], "criterion.acoustic_scale=0.5"),
    ],
)
def test_the_same_command_finds_its_run_whatever_data_its_criterion_needs(
    tmp_path: Path, options: list[str], other: str
) -> None:
    """The default criterion needs lattices, which others need not have."""
    data = [f"exp_dir={tmp_path}", "init_from=ce", "train.data_dir=data", "train.ali_dir=ali"]
    config = compose_sequence_config([*data, *options])
    claim_exp_dir(config)
    (tmp_path / "final.pt").touch()
    claim_exp_dir(config)
    key = other.split("=")[0]
    with pytest.raises(ConfigError, match=rf"another configuration: {key} \(.* there, .* now\); choose"):
        claim_exp_dir(compose_sequence_config([*data, *options, other]))
    with pytest.raises(ConfigError, match=r"another configuration: .*criterion\.name"):
        claim_exp_dir(compose_sequence_config([*data, "criterion=bmmi", "train.lat_dir=lats"]))


@pytest.mark.parametrize("frame_subsampling", [1, 3])
def test_lattice_free_with_numerators_of_training_graphs(
    corpus: Path, system: Path, tmp_path: Path, frame_subsampling: int
) -> None:
    lang, model_dir = GOLDEN / "graph" / "lang", GOLDEN / "model" / "mono"
    overrides = ["criterion=lfmmi", "criterion.numerator=graph", "criterion.tolerance=3", "optim.learning_rate=1e-3",
                 f"criterion.frame_subsampling={frame_subsampling}"]  # fmt: skip
    for name in ("train", "dev"):
        (tmp_path / name).mkdir()
        run(
            ["compile-train-graphs", "--num-jobs=1", f"--word-symbol-table={lang}/words.txt", str(model_dir / "tree"),
             str(model_dir / "final.mdl"), str(lang / "L.fst"), str(GOLDEN / "wav" / "text"),
             f"ark:{tmp_path}/{name}/fsts.1.gz"]
        )  # fmt: skip
        overrides.append(f"{name}.graph_dir={tmp_path}/{name}")
    run(["train-sequence", *arguments(corpus, system, tmp_path / "exp", *overrides)])
    losses = [line["train_loss"] for line in metrics(tmp_path / "exp")]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True) and losses[-1] > 0


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["criterion.name=mce"], "mce"),
        (["+criterion.boots=1"], "boots"),
        (["criterion.acoustic_scale=0"], "acoustic_scale"),
        (["init_from=null"], "init_from"),
        (["train.lat_dir=null"], "lat_dir"),
        (["dev.lat_dir=null"], "lat_dir"),
        (["f_smoothing=1"], "f_smoothing"),
        (["optim.label_smoothing=0.1"], "label_smoothing"),
        (["criterion=lfmmi", "criterion.numerator=graph"], "graph_dir"),
        (["criterion=lfmmi", "criterion.numerator=words"], "numerator"),
        (["criterion=lfsmbr", "+criterion.numerator=graph"], "numerator"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(overrides: list[str], problem: str) -> None:
    some = Path("some")
    with pytest.raises(ConfigError, match=problem):
        compose_sequence_config(arguments(some, some, some, *overrides))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [(["data=default"], "batch_size must be given: of utt"), (["optim=sgd"], "learning_rate must be given: for sums")],
)
def test_what_training_would_choose_for_frames_is_not_taken_for_utterances(
    tmp_path: Path, overrides: list[str], problem: str
) -> None:
    some = Path("some")
    with pytest.raises(ConfigError, match=problem):
        run(["train-sequence", *arguments(some, some, tmp_path, *overrides)])
    assert not list(tmp_path.iterdir())
