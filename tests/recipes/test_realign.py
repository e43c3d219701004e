"""recipes/common/realign.sh: how the network of a round begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.recipes.experiments import RECIPES

# What a round would train is printed instead of trained.
SCRIPT = """
set -euo pipefail
. "$1/common/options.sh"; . "$1/common/stages.sh"; . "$1/common/realign.sh"
run_common_stages() { printf '%s\\n' "$stage" "${network_options[@]}" "${overrides[@]}"; }
network_options=(model.hidden_dim=8) overrides=(features.splice_left=3 seed=2) exp=$2
"""
CONFIG = """
pretrain:
  learning_rate: 0.4
optim:
  linear_learning_rate: 0.01
  learning_rate: 0.2
schedule:
  max_epochs: 7
data:
  batch_size: 1024
"""


def options_of_round(exp: Path, settings: str) -> list[str]:
    """What training is given in the round after that of `exp`."""
    for file in ("dnn/final.pt", "realign1/ali/final.mdl"):
        (exp / file).parent.mkdir(parents=True, exist_ok=True)
        (exp / file).touch()
    (exp / "dnn" / "config.yaml").write_text(CONFIG)
    command = f"{SCRIPT}\n{settings}\ntrain_round {exp}/realign1 {exp}"
    result = subprocess.run(["bash", "-c", command, "bash", str(RECIPES), str(exp)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line.strip() for line in result.stdout.splitlines()]


def test_training_goes_on_with_the_front_end_of_the_network_that_aligned(tmp_path: Path) -> None:
    options = options_of_round(tmp_path, "further_options=(schedule.max_epochs=2)")
    further = ["optim.learning_rate=0.2", "data.batch_size=1024", "schedule.max_epochs=2"]
    assert options == ["6", "model.hidden_dim=8", f"init_from='{tmp_path}/dnn'", *further, "seed=2"]


def test_training_goes_on_at_a_part_of_the_rate_whatever_the_user_said_of_the_first_training(tmp_path: Path) -> None:
    users = "optim.learning_rate=0.2 data.batch_size=64 ++schedule.max_epochs=7 init_from=other optim.momentum=0.5"
    settings = f"further_options=(schedule.max_epochs=2) further_rate=0.3 overrides=({users})"
    further = ["optim.learning_rate=0.06", "data.batch_size=1024", "schedule.max_epochs=2"]
    assert options_of_round(tmp_path, settings)[2:] == [f"init_from='{tmp_path}/dnn'", *further, "optim.momentum=0.5"]


@pytest.mark.parametrize("early", ["", "further_options=(schedule.max_epochs=2) early_options=(model.hidden_dim=4)"])
def test_training_begins_anew_after_another_kind_of_network(tmp_path: Path, early: str) -> None:
    assert options_of_round(tmp_path, early) == ["6", "model.hidden_dim=8", "features.splice_left=3", "seed=2"]
