"""The decoder against latgen-faster-mapped's words, alignments and likelihoods, and against exhaustive search."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acoustic.decode.decoder import Decoder, DecoderOptions, NoPathError, decode_utterances
from acoustic.decode.graph import make_graph
from acoustic.decode.jobs import in_processes
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.fst import ARC, FstArrays
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"
SYSTEMS = ["mono", "tri1"]


def model_of(system: str) -> TransitionModel:
    return TransitionModel.read(GOLDEN / "model" / system / "final.mdl")


def loglikes_of(system: str) -> dict[str, np.ndarray]:
    return dict(read_table(f"ark:{GOLDEN / 'decode' / system / 'loglikes.ark'}", "matrix"))


def kaldi_answers(system: str) -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, float]]:
    """Words, alignments and log likelihoods per frame."""
    folder = GOLDEN / "decode" / system
    words, alignments = (
        {utt: list(map(int, ids)) for utt, ids in read_table(f"ark:{folder / name}", "tokens")}
        for name in ("words_int.txt", "ali.txt")
    )
    log = (folder / "latgen.log").read_text()
    likes = {utt: float(like) for utt, like in re.findall(r"for utterance (\S+) is (\S+) over", log)}
    return words, alignments, likes


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("graph", ["kaldi", "ours"])
@pytest.mark.parametrize("num_jobs", [1, 2])
def test_words_alignments_and_likelihoods_are_kaldis(tmp_path, system, graph, num_jobs):
    model, loglikes = model_of(system), loglikes_of(system)
    path = GOLDEN / "graph" / system / "HCLG.fst"
    if graph == "ours":
        make_graph(GOLDEN / "graph" / "lang", GOLDEN / "model" / system, tmp_path / "graph")
        path = tmp_path / "graph" / "HCLG.fst"
    words, alignments, likes = kaldi_answers(system)
    decoded = list(decode_utterances(Decoder(model, path), loglikes.items(), num_jobs))
    assert [utt for utt, _, _ in decoded] == list(loglikes)
    for utt, num_frames, result in decoded:
        assert not isinstance(result, NoPathError)
        assert result.words == words[utt]
        assert result.transition_ids.tolist() == alignments[utt]
        assert result.reached_final
        assert result.likelihood / num_frames == pytest.approx(likes[utt], abs=1e-4)


def test_long_utterances_are_scored_in_pieces(monkeypatch):
    monkeypatch.setattr("acoustic.decode.search.SCORES_AT_ONCE", 1000)
    words, alignments, _ = kaldi_answers("tri1")
    decoder = Decoder(model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst")
    for utt, loglikes in loglikes_of("tri1").items():
        result = decoder.decode(loglikes)
        assert (result.words, result.transition_ids.tolist()) == (words[utt], alignments[utt])


def test_insertion_penalty_is_paid_once_a_word():
    model, graph = model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst"
    plain, penalised = Decoder(model, graph), Decoder(model, graph, DecoderOptions(insertion_penalty=0.5))
    for loglikes in loglikes_of("tri1").values():
        before, after = plain.decode(loglikes), penalised.decode(loglikes)
        assert after.words == before.words
        assert after.graph_cost == pytest.approx(before.graph_cost + 0.5 * len(before.words), abs=1e-3)
    loglikes = loglikes_of("tri1")["engb_f2-000"]
    tempted = Decoder(model, graph, DecoderOptions(insertion_penalty=-100.0)).decode(loglikes)
    assert len(tempted.words) > len(plain.decode(loglikes).words)


def test_acoustic_scale():
    model, graph = model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst"
    loglikes = loglikes_of("tri1")["engb_f4-004"]
    direct = Decoder(model, graph, DecoderOptions(acoustic_scale=0.2)).decode(loglikes)
    shared = Decoder(model, graph).with_acoustic_scale(0.2).decode(loglikes)
    assert direct.words == shared.words
    assert direct.acoustic_cost == shared.acoustic_cost
    along = loglikes[np.arange(len(loglikes)), model.pdf_of[direct.transition_ids]]
    assert direct.acoustic_cost == pytest.approx(-0.2 * along.sum(), rel=1e-5)


def test_unfinished_paths():
    model, graph = model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst"
    beginning = loglikes_of("tri1")["engb_f3-002"][:1]
    partial = Decoder(model, graph).decode(beginning)
    assert not partial.reached_final
    assert len(partial.transition_ids) == 1
    with pytest.raises(NoPathError) as caught:
        Decoder(model, graph, DecoderOptions(allow_partial=False)).decode(beginning)
    assert caught.value.reason == "no_final_state"


def test_no_frames_and_no_path():
    decoder = Decoder(model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst")
    with pytest.raises(NoPathError) as caught:
        decoder.decode(np.zeros((0, 104), np.float32))
    assert caught.value.reason == "no_frames"
    with pytest.raises(NoPathError) as caught:
        decoder.decode(np.full((5, 104), -np.inf, np.float32))
    assert caught.value.reason == "no_path"


def test_a_failed_utterance_does_not_disturb_the_next():
    decoder = Decoder(model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst")
    loglikes = loglikes_of("tri1")["engb_f2-005"]
    items = [("dead", np.full((5, 104), -np.inf, np.float32)), ("empty", loglikes[:0]), ("good", loglikes)]
    for num_jobs in (1, 2):
        outcomes = {utt: result for utt, _, result in decode_utterances(decoder, items, num_jobs)}
        assert [outcomes[utt].reason for utt in ("dead", "empty")] == ["no_path", "no_frames"]
        assert outcomes["good"].words == [8, 4]


def test_results_do_not_depend_on_utterances_before():
    """Nor, then, on the number of processes; where so many states are active that a narrow beam makes search errors."""
    model, rng, num_states, degree = model_of("tri1"), np.random.default_rng(0), 3000, 4
    arcs = np.zeros(num_states * degree, ARC)
    arcs["ilabel"] = rng.integers(1, model.num_transition_ids + 1, len(arcs))
    arcs["nextstate"] = rng.integers(0, num_states, len(arcs))
    arcs["weight"] = rng.exponential(1, len(arcs))
    graph = FstArrays(0, np.zeros(num_states, np.float32), np.arange(0, len(arcs) + 1, degree), arcs)
    options = DecoderOptions(acoustic_scale=1.0, beam=3.0)
    used = Decoder(model, graph, options)
    used.decode(np.zeros((12, model.num_pdfs), np.float32))
    for _ in range(30):
        loglikes = 3 * rng.standard_normal((30, model.num_pdfs)).astype(np.float32)
        alone, after_others = Decoder(model, graph, options).decode(loglikes), used.decode(loglikes)
        assert after_others.transition_ids.tolist() == alone.transition_ids.tolist()
        assert after_others.likelihood == alone.likelihood


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_faulty_loglikes_name_the_utterance(monkeypatch, num_jobs):
    decoder = Decoder(model_of("tri1"), GOLDEN / "graph" / "tri1" / "HCLG.fst")
    narrow, nan = np.zeros((4, 62), np.float32), np.zeros((4, 104), np.float32)
    with pytest.raises(DataError, match=r"utterance x.*62.*104"):
        list(decode_utterances(decoder, [("x", narrow)], num_jobs))
    for value in (np.nan, np.inf):
        nan[2, 7] = value
        with pytest.raises(DataError, match=r"utterance y.*frame 2.*NaN or infinite"):
            list(decode_utterances(decoder, [("y", nan)], num_jobs))
    monkeypatch.setattr("acoustic.decode.search.SCORES_AT_ONCE", 100)  # a frame or two
    with pytest.raises(DataError, match=r"utterance y.*frame 2.*NaN or infinite"):
        list(decode_utterances(decoder, [("y", nan)], num_jobs))


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 0.0},
        {"acoustic_scale": 0.0},
        {"acoustic_scale": float("nan")},
        {"max_active": 1},
        {"min_active": 8000},
        {"insertion_penalty": float("inf")},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="--"):
        DecoderOptions(**options)


def test_processes_take_no_more_items_than_they_need():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    answers = in_processes(lambda number: number * number, items(), 2)
    assert [next(answers) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + 6
    answers.close()


def test_no_processes_is_a_configuration_error():
    with pytest.raises(ConfigError, match="--num-jobs=0"):
        list(in_processes(abs, [1], 0))


def test_processes_leave_an_interrupt_to_the_one_that_has_them():
    """Ctrl-C reaches all of them at once, and each would print a traceback."""
    ignored = in_processes(lambda _: signal.getsignal(signal.SIGINT) is signal.SIG_IGN, range(4), 2)
    assert list(ignored) == [True] * 4 and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_process_that_dies_is_an_error():
    with pytest.raises(DataError, match="died"):
        list(in_processes(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(4), 2))


COMPUTING = """
import torch
from acoustic.decode.jobs import in_processes

def total(number):
    torch.set_num_threads(2)
    return float((matrix @ matrix).sum()) > number

matrix = torch.ones(400, 400)
torch.set_num_threads(3)
total(0)
torch.set_num_threads(3)
assert list(in_processes(total, (total(n) and n for n in range(4)), 2)) == [True] * 4
assert torch.get_num_threads() == 2 and total(0)
"""


def test_processes_compute_on_threads_of_their_own(tmp_path):
    """Those that OpenMP keeps in this process are not there in forked ones, which would wait for them for ever."""
    (tmp_path / "program.py").write_text(COMPUTING)
    subprocess.run([sys.executable, str(tmp_path / "program.py")], timeout=60, check=True)
