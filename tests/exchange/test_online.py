"""What online decoders of Kaldi's need beside an exported net, and that with it they find what we find."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.main import run
from acoustic.decode.forward import AcousticModel
from acoustic.errors import DataError
from acoustic.exchange.nnet3_export import export_nnet3
from acoustic.exchange.online import why_not_online
from acoustic.exchange.stages import split
from acoustic.features.audio import read_audio
from acoustic.features.cmvn import cmvn_stats
from acoustic.features.config import FrontendConfig
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend
from acoustic.kaldi.matrix import read_matrix_file, write_matrix_file
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.nn.bundle import Bundle
from tests.exchange.models import make_bundle, make_frontend
from tests.kaldi.goldens import GOLDEN

TRI1 = GOLDEN / "model/tri1/final.mdl"
FBANK = {"sample_frequency": 8000.0, "num_mel_bins": 40, "low_freq": 64.0, "dither": 1.0}
PROGRAMS = ("online2-wav-nnet3-latgen-faster", "online2-wav-dump-features", "latgen-faster-mapped")
HAS_KALDI = all(map(shutil.which, PROGRAMS))
DECODING = ["--beam=13", "--lattice-beam=8", "--acoustic-scale=0.1"]
UTTS = ("engb_f2-000", "engb_f3-002")


def waveform(utt: str) -> np.ndarray:
    return read_audio(str(GOLDEN / f"wav/{utt}.wav"))[0]


def feats(utt: str) -> torch.Tensor:
    return Fbank(FbankOptions(**{**FBANK, "dither": 0.0}))([torch.from_numpy(waveform(utt))])[0]


def global_stats() -> torch.Tensor:
    return cmvn_stats(torch.cat([feats(utt) for utt in UTTS]))


def make_model(config: FrontendConfig) -> tuple[Bundle, Frontend]:
    """A random model of TRI1's pdfs that knows how its features are made."""
    frontend = make_frontend(config, feat_dim=40)
    if frontend.global_cmvn is not None:
        frontend.set_global_cmvn(global_stats())
    bundle = make_bundle(frontend, TransitionModel.read(TRI1).num_pdfs, torch.arange(1, 105), hidden_dims=[20])
    bundle.fbank_options = FBANK
    bundle.fingerprints["transition_model"] = TransitionModel.read(TRI1).fingerprint()
    bundle.classifier.output.weight.data *= 3
    return bundle, frontend


def conf(path: Path) -> dict[str, str]:
    return dict(line.removeprefix("--").split("=", 1) for line in path.read_text().splitlines())


ALL_INSIDE = FrontendConfig(cmvn="global", norm_vars=True, splice_left=4, splice_right=4)
SPEAKER = FrontendConfig(cmvn="speaker", norm_vars=True, splice_left=4, splice_right=4)
DELTAS = FrontendConfig(cmvn="none", delta_order=2, splice_left=2, splice_right=2)
SLIDING = FrontendConfig(cmvn="sliding", cmvn_window=150, cmvn_center=False, splice_left=1)
FMLLR = FrontendConfig(cmvn="speaker", fmllr="speaker", splice_left=2)


def test_a_chain_that_is_all_inside_needs_filter_banks_alone(tmp_path: Path) -> None:
    bundle, frontend = make_model(ALL_INSIDE)
    export_nnet3(bundle, frontend, tmp_path / "out", TRI1)
    online = conf(tmp_path / "out/conf/online.conf")
    assert online == {"feature-type": "fbank", "fbank-config": f"{tmp_path}/out/conf/fbank.conf"}
    options = conf(Path(online["fbank-config"]))
    assert (options["sample-frequency"], options["num-mel-bins"], options["low-freq"]) == ("8000", "40", "64")
    assert (options["dither"], options["snip-edges"], options["window-type"]) == ("0", "true", "povey")
    assert "vtln-warp" not in options


@pytest.mark.parametrize(("config", "window"), [(SPEAKER, "600"), (SLIDING, "150")])
def test_cmvn_outside_becomes_that_of_the_frames_so_far(tmp_path: Path, config: FrontendConfig, window: str) -> None:
    bundle, frontend = make_model(config)
    write_matrix_file(tmp_path / "stats", global_stats().numpy())
    export_nnet3(bundle, frontend, tmp_path / "out", TRI1, global_cmvn=tmp_path / "stats")
    online = conf(tmp_path / "out/conf/online.conf")
    np.testing.assert_array_equal(read_matrix_file(online["global-cmvn-stats"]), global_stats().numpy())
    cmvn = conf(Path(online["cmvn-config"]))
    assert (cmvn["cmn-window"], cmvn["speaker-frames"]) == (window, window)
    assert int(cmvn["global-frames"]) <= int(window)
    assert cmvn["norm-vars"] == str(config.norm_vars).lower()


def test_why_a_chain_cannot_be_computed_online() -> None:
    for config, options, has_stats, reason in (
        (FMLLR, FBANK, True, "fMLLR"),
        (SPEAKER, None, True, "fbank_config"),
        (SPEAKER, FBANK, False, "--global-cmvn"),
        (DELTAS, FBANK, True, "--edges=padded"),
        (SPEAKER, {**FBANK, "vtln_warp": 1.1}, True, "vtln-warp"),
        (SPEAKER, FBANK, True, None),
        (ALL_INSIDE, FBANK, False, None),
    ):
        cut = split(make_frontend(config, feat_dim=40), max_contexts=1)
        obstacle = why_not_online(cut, options, has_stats)
        assert obstacle is None if reason is None else obstacle is not None and reason in obstacle
    assert why_not_online(split(make_frontend(DELTAS, feat_dim=40)), FBANK, False) is None


def test_the_reason_is_said_and_nothing_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle, frontend = make_model(FMLLR)
    with caplog.at_level("INFO"):
        export_nnet3(bundle, frontend, tmp_path / "out", TRI1)
    assert "no conf/online.conf: fMLLR transforms of a speaker" in caplog.text
    assert not (tmp_path / "out/conf").exists()


@pytest.mark.parametrize("config", [SPEAKER, FMLLR])
def test_statistics_of_other_features_are_refused(tmp_path: Path, config: FrontendConfig) -> None:
    """Though nothing for online decoders were written: they were given."""
    bundle, frontend = make_model(config)
    with pytest.raises(DataError, match="stats: cannot be opened"):
        export_nnet3(bundle, frontend, tmp_path / "out", TRI1, global_cmvn=tmp_path / "stats")
    write_matrix_file(tmp_path / "stats", np.ones((2, 24)))
    with pytest.raises(DataError, match=r"are \[2, 41\]"):
        export_nnet3(bundle, frontend, tmp_path / "out", TRI1, global_cmvn=tmp_path / "stats")
    assert not (tmp_path / "out").exists()


def test_the_verb_takes_statistics_and_info_shows_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, _ = make_model(SPEAKER)
    (tmp_path / "final.pt").write_bytes(bundle.to_bytes())
    write_matrix_file(tmp_path / "stats", global_stats().numpy())
    arguments = ["export", "nnet3", f"--model={TRI1}", f"--global-cmvn={tmp_path}/stats"]
    run([*arguments, f"{tmp_path}/final.pt", f"{tmp_path}/out"])
    capsys.readouterr()
    run(["info", f"{tmp_path}/out"])
    assert "nnet3 directory: 40 values in a frame, 104 outputs" in (printed := capsys.readouterr().out)
    assert "final.mdl and tree fit\n" in printed and "online decoding: conf/online.conf" in printed


# -- with Kaldi -------------------------------------------------------------------------------------------------------


def kaldi(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def ours(folder: Path, bundle: Bundle, stats: torch.Tensor | None) -> tuple[str, dict[str, np.ndarray]]:
    """Words that Kaldi's decoder finds in our loglikes, and these."""
    loglikes = {utt: AcousticModel(bundle).loglikes_of_feats(feats(utt), stats).numpy() for utt in UTTS}
    with TableWriter(f"ark:{folder}/ours.ark", "matrix") as writer:
        for utt, matrix in loglikes.items():
            writer.write(utt, matrix)
    graph, out = GOLDEN / "graph/tri1/HCLG.fst", f"ark,t:{folder}/ours.words"
    kaldi("latgen-faster-mapped", *DECODING, TRI1, graph, f"ark:{folder}/ours.ark", "ark:/dev/null", out)
    return (folder / "ours.words").read_text(), loglikes


@pytest.mark.kaldi
@pytest.mark.skipif(not HAS_KALDI, reason="Kaldi's online2 programs are not on PATH")
@pytest.mark.parametrize("config", [ALL_INSIDE, DELTAS, SPEAKER], ids=["global", "deltas", "speaker"])
def test_kaldis_online_decoder_reads_the_configuration(tmp_path: Path, config: FrontendConfig) -> None:
    """With all inside the net, the online decoder's words from audio are ours."""
    bundle, frontend = make_model(config)
    write_matrix_file(tmp_path / "stats", global_stats().numpy())
    out = tmp_path / "out"
    export_nnet3(bundle, frontend, out, TRI1, exact_edges=False, global_cmvn=tmp_path / "stats")
    (tmp_path / "wav.scp").write_text("".join(f"{utt} {GOLDEN}/wav/{utt}.wav\n" for utt in UTTS))
    (tmp_path / "spk2utt").write_text("".join(f"{utt} {utt}\n" for utt in UTTS))
    tables = [f"ark:{tmp_path}/spk2utt", f"scp:{tmp_path}/wav.scp"]
    online = f"--config={out}/conf/online.conf"
    kaldi("online2-wav-dump-features", online, *tables, f"ark:{tmp_path}/feats.ark")
    dumped = dict(read_table(f"ark:{tmp_path}/feats.ark", "matrix"))
    assert set(dumped) == set(UTTS)
    if config is not SPEAKER:  # whose CMVN online is not that of the whole utterance
        for utt in UTTS:
            np.testing.assert_allclose(dumped[utt], feats(utt).numpy(), atol=1e-3)
    words = f"--word-symbol-table={GOLDEN}/graph/tri1/words.txt"
    graph, lattices = GOLDEN / "graph/tri1/HCLG.fst", f"ark:{tmp_path}/lat.ark"
    options = ["--do-endpointing=false", "--online=true", *DECODING, words, online]
    kaldi("online2-wav-nnet3-latgen-faster", *options, out / "final.mdl", graph, *tables, lattices)
    kaldi("lattice-best-path", "--acoustic-scale=0.1", lattices, f"ark,t:{tmp_path}/theirs.words")
    if config is ALL_INSIDE:
        assert (tmp_path / "theirs.words").read_text() == ours(tmp_path, bundle, None)[0]
