"""Stand-ins for Kaldi experiments, and running the recipes that start from them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = [
    "model.hidden_layers=1",
    "model.hidden_dim=16",
    "schedule.max_epochs=1",
    "runtime.precision=fp32",
    "runtime.num_threads=1",
]
SETS = {"swbd": ("train_nodup", "train_dev", "eval2000"), "bn": ("train", None, "eval97.pem")}


def run(command: list[str | Path], timeout: float = 1200, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program; PATH begins with the environment's own folder. Threads would only get in each other's way."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout, env=variables)


def recipe(name: str, *arguments: str | Path, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
    """recipes/NAME/run.sh."""
    return run(["bash", RECIPES / name / "run.sh", *arguments], timeout)


def make_corpus(folder: Path) -> None:
    """The corpus of recipes/mini with two sentences a speaker, its lang directory, alignments and graph."""
    result = recipe(
        "mini", f"--exp={folder}", "--stop-stage=1", "--num-jobs=2",
        "--train-utterances=2", "--dev-utterances=1", "--test-utterances=1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    result = run(["acoustic", "mkgraph", folder / "lang", folder / "mono", folder / "graph"])
    assert result.returncode == 0, result.stderr


def make_stand_in(corpus: Path, name: str, folder: Path) -> None:
    """Lay the corpus out as the experiment of a recipe."""
    result = run(
        [
            sys.executable, RECIPES / "common/local/make_stand_in.py", "--train", corpus / "corpus/train",
            "--dev", corpus / "corpus/dev", "--test", corpus / "corpus/test", "--lang", corpus / "lang",
            "--model", corpus / "mono", "--ali", corpus / "mono_ali", "--graph", corpus / "graph", name, folder,
        ]
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def stages(output: str) -> list[int]:
    """The numbers of the stages that were run."""
    return [int(match[1]) for match in re.finditer(r"^stage (\d+):", output, re.MULTILINE)]


def table(output: str) -> dict[str, list[str]]:
    """The rows of the table of results by what they are about, and its columns under `system`."""
    lines = output.splitlines()
    rule = next(i for i, line in enumerate(lines) if re.fullmatch("-{20,}", line))
    rows = [re.split(r"  +", line.strip()) for line in [lines[rule - 1], *lines[rule + 1 :]] if "  " in line]
    return {row[0]: row[1:] for row in rows}


def num_words(data_dir: Path) -> int:
    """Words of a data directory's text."""
    return sum(len(line.split()) - 1 for line in (data_dir / "text").read_text().splitlines())


def assert_wer_line(line: str, words: int) -> None:
    """A `%WER` line over so many words."""
    assert re.fullmatch(rf"%WER \d+\.\d\d \[ \d+ / {words}, \d+ ins, \d+ del, \d+ sub \]", line), line
