"""Six utterances as a Kaldi experiment of two folds, with features stored in one and audio alone in the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/fold1 (features), data/fold2 (wav), exp/tri1_ali, exp/tri1/graph."""
    root = tmp_path_factory.mktemp("experiment")
    golden = DataDir.read(GOLDEN / "wav", root=GOLDEN)
    with TableWriter(f"ark,scp:{root}/feats.ark,{root}/feats.scp", "matrix") as writer:
        for utt, feats in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix"):
            if utt in golden.utt2spk:
                writer.write(utt, feats)
    places = dict(line.split(" ", 1) for line in (root / "feats.scp").read_text().splitlines())
    utts = sorted(golden.utt2spk)
    for fold, (dev, test) in {"fold1": (0, 1), "fold2": (2, 3)}.items():
        parts = {"dev": [utts[dev]], "test": [utts[test]]}
        parts["train"] = [utt for utt in utts if utt not in (utts[dev], utts[test])]
        for name, chosen in parts.items():
            folder = root / "data" / fold / name
            folder.mkdir(parents=True)
            wav = {utt: str(GOLDEN / "wav" / f"{utt}.wav") for utt in chosen}
            text = {utt: golden.text[utt] for utt in chosen}
            feats = {utt: places[utt] for utt in chosen} if fold == "fold1" else {}
            DataDir(wav=wav, text=text, utt2spk={utt: utt for utt in chosen}, feats=feats).write(folder)
    ali = shutil.copytree(GOLDEN / "align" / "tri1", root / "exp" / "tri1_ali", ignore=shutil.ignore_patterns("*.txt"))
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "tri1" / name, ali)
    shutil.copytree(GOLDEN / "graph" / "tri1", root / "exp" / "tri1" / "graph")
    return root
