"""conf/experiment for `acoustic train-sequence`: what was published, and that all of them compose."""

from __future__ import annotations

import pytest

from acoustic.cli.hydra_config import compose_sequence_config, conf_dir
from acoustic.sequence.config import CRITERION_CONFIGS, SequenceConfig

FILES = {path.stem: path.read_text() for path in sorted((conf_dir() / "experiment").glob("*.yaml"))}
EXPERIMENTS = [name for name, text in FILES.items() if "override /criterion" in text]


def compose(*overrides: str) -> SequenceConfig:
    data = ["train.data_dir=data", "train.ali_dir=ali", "train.lat_dir=lat", "init_from=exp/dnn"]
    return compose_sequence_config(["exp_dir=exp", *data, *overrides])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name: str) -> None:
    assert compose(f"experiment={name}").exp_dir == "exp"


@pytest.mark.parametrize("name", ["dahl2013_smbr", "vesely2013_smbr"])
def test_heads_say_what_was_reported_and_chosen(name: str) -> None:
    head = "\n".join(line for line in FILES[name].splitlines() if line.startswith("#"))
    for part in ["Reported", "As published", "hosen here", "acoustic train-sequence", f"experiment={name}"]:
        assert part in head


@pytest.mark.parametrize("name", ["lfmmi", "smbr"])
def test_heads_of_our_own_say_what_was_seen(name: str) -> None:
    head = "\n".join(line for line in FILES[name].splitlines() if line.startswith("#"))
    for part in ["Not published", "Seen (% WER of test)", f"acoustic train-sequence experiment={name}"]:
        assert part in head


def test_vesely2013_smbr() -> None:
    config = compose("experiment=vesely2013_smbr")
    optim, schedule, criterion = config.optim, config.schedule, config.criterion
    assert (optim.name, optim.learning_rate, optim.momentum, config.data.batch_size) == ("sgd", 1e-5, 0.0, 1)
    assert (schedule.name, schedule.max_epochs, config.f_smoothing, config.model.rates[0]) == ("constant", 4, 0.0, 0.0)
    assert (criterion.name, criterion.acoustic_scale, criterion.one_silence_class) == ("smbr", 0.0909, True)


def test_dahl2013_smbr() -> None:
    config = compose("experiment=dahl2013_smbr")
    assert (config.optim.name, config.criterion.name, config.model.rates[0]) == ("hessian_free", "smbr", 0.0)


@pytest.mark.parametrize(
    ("criterion", "experiment"), [("smbr", "smbr"), ("lfmmi", "lfmmi"), ("lfsmbr", "lfmmi")], ids=str
)
def test_the_recipes_train_with_unscaled_loglikes(criterion: str, experiment: str) -> None:
    config = compose(f"criterion={criterion}", f"experiment={experiment}")
    assert (config.criterion.name, config.criterion.acoustic_scale) == (criterion, 1.0)
    assert config.f_smoothing > 0 and config.data.batch_size > 1 and config.model.rates[0] == 0.0


@pytest.mark.parametrize("name", CRITERION_CONFIGS)
def test_every_criterion_has_a_group_with_the_defaults(name: str) -> None:
    assert compose(f"criterion={name}").criterion == CRITERION_CONFIGS[name](name=name)
