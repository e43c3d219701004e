"""A corpus of six utterances, the smallest that a whole training run needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parent.parent / "golden"
DEV_SPEAKER = "engb_f5"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/train, data/dev (one speaker) with Kaldi's MFCCs and CMVN statistics, and ali with its alignments."""
    root = tmp_path_factory.mktemp("corpus")
    speaker_of = DataDir.read(GOLDEN / "wav").utt2spk
    for name in ("train", "dev"):
        folder = root / "data" / name
        folder.mkdir(parents=True)
        chosen = {utt: spk for utt, spk in speaker_of.items() if (spk == DEV_SPEAKER) == (name == "dev")}
        with TableWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp", "matrix") as writer:
            for utt, feats in read_table(f"ark:{GOLDEN}/feats/mfcc13.ark", "matrix"):
                if utt in chosen:
                    writer.write(utt, feats)
        with TableWriter(f"ark,scp:{folder}/cmvn.ark,{folder}/cmvn.scp", "matrix") as writer:
            for speaker, stats in read_table(f"ark:{GOLDEN}/fmllr/cmvn_mfcc13_spk.ark", "matrix"):
                if speaker in chosen.values():
                    writer.write(speaker, stats)
        DataDir(utt2spk=chosen, feats=DataDir.read(folder).feats, cmvn=DataDir.read(folder).cmvn).write(folder)
    ali = shutil.copytree(GOLDEN / "align" / "mono", root / "ali")
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "mono" / name, ali)
    return root
