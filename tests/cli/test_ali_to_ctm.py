"""Phone and word times against ali-to-phones --ctm-output and lattice-align-words | nbest-to-ctm."""

from __future__ import annotations

from pathlib import Path

import kaldifst
import pytest

from acoustic.cli.main import run
from acoustic.decode.lang import LangOptions, prepare_lang
from acoustic.decode.time_files import TimedLabel, textgrid
from acoustic.decode.times import Interval, WordTimes
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"
TEXT = GOLDEN / "wav" / "text"
WORD_OPTIONS = ["--level=word", f"--lang-dir={LANG}", f"--text={TEXT}"]


def inputs(system: str) -> list[str]:
    return [str(GOLDEN / "model" / system / "final.mdl"), f"ark:{GOLDEN / 'align' / system / 'ali.ark'}"]


def fields(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


@pytest.mark.parametrize("system", ["mono", "tri1"])
def test_phone_times_are_kaldis(tmp_path, system):
    run(["ali-to-ctm", *inputs(system), str(tmp_path / "ctm")])
    assert fields(tmp_path / "ctm") == fields(GOLDEN / "align" / system / "phones.ctm")


@pytest.mark.parametrize("system", ["mono", "tri1"])
def test_word_times_are_kaldis(tmp_path, system):
    run(["ali-to-ctm", *WORD_OPTIONS, "--print-silence", *inputs(system), str(tmp_path / "ctm")])
    expected = fields(GOLDEN / "align" / system / "words_and_silence.ctm")
    assert fields(tmp_path / "ctm") == expected
    run(["ali-to-ctm", *WORD_OPTIONS, *inputs(system), str(tmp_path / "ctm")])
    assert fields(tmp_path / "ctm") == [line for line in expected if line[4] != "<eps>"]


def test_times_of_segments_are_those_of_recordings(tmp_path):
    """What convert_ctm.pl makes of the times within utterances."""
    utts = [line[0] for line in fields(TEXT)]
    segments, channels = tmp_path / "segments", tmp_path / "reco2file_and_channel"
    segments.write_text("".join(f"{utt} call-{n % 2} {1.5 * n} {1.5 * n + 9}\n" for n, utt in enumerate(utts)))
    channels.write_text("call-0 call A\ncall-1 call B\n")
    run(["ali-to-ctm", *inputs("mono"), str(tmp_path / "within")])
    options = [f"--segments={segments}", f"--reco2file-and-channel={channels}"]
    run(["ali-to-ctm", *options, *inputs("mono"), str(tmp_path / "ctm")])
    number = {utt: n for n, utt in enumerate(utts)}
    expected = [
        ["call", "AB"[number[utt] % 2], f"{1.5 * number[utt] + float(begin):.3f}", *rest]
        for utt, _, begin, *rest in fields(tmp_path / "within")
    ]
    assert fields(tmp_path / "ctm") == expected
    run(["ali-to-ctm", options[0], *inputs("mono"), str(tmp_path / "ctm")])
    assert [line[:2] for line in fields(tmp_path / "ctm")] == [
        [f"call-{number[line[0]] % 2}", "1"] for line in fields(tmp_path / "within")
    ]

    for line in ("", "call-1 call\n", "call-1 call B C\n"):
        channels.write_text(f"call-0 call A\n{line}")
        with pytest.raises(DataError, match=r"reco2file_and_channel.*call-1 FILE CHANNEL"):
            run(["ali-to-ctm", *options, *inputs("mono"), str(tmp_path / "ctm")])
    segments.write_text("".join(segments.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DataError, match=f"no_times .*{utts[0]}: is not in "):
        run(["ali-to-ctm", options[0], *inputs("mono"), str(tmp_path / "ctm")])
    with pytest.raises(DataError, match="nowhere: is missing"):
        run(["ali-to-ctm", f"--segments={tmp_path / 'nowhere'}", *inputs("mono"), str(tmp_path / "ctm")])
    with pytest.raises(ConfigError, match="--segments is for a CTM"):
        run(["ali-to-ctm", "--format=textgrid", options[0], *inputs("mono"), str(tmp_path / "grids")])


def test_phones_have_names_with_a_lang_directory(tmp_path, capfd):
    run(["ali-to-ctm", f"--lang-dir={LANG}", *inputs("mono"), "-"])
    assert capfd.readouterr().out.splitlines()[0].split() == ["engb_f2-000", "1", "0.000", "0.080", "S_B"]


def test_textgrids_have_words_above_phones_without_gaps(tmp_path):
    run(["ali-to-ctm", "--format=textgrid", *WORD_OPTIONS, *inputs("tri1"), str(tmp_path / "grids")])
    grids = sorted((tmp_path / "grids").iterdir())
    assert [grid.stem for grid in grids] == [line[0] for line in fields(TEXT)]
    for grid, (_, *words) in zip(grids, fields(TEXT), strict=True):
        tiers = grid.read_text().split("item [")[1:]
        assert ['name = "words"' in tiers[1], 'name = "phones"' in tiers[2]] == [True, True]
        texts = [line.split('"')[1] for line in tiers[1].splitlines() if "text =" in line]
        assert [text for text in texts if text] == words
        for tier in tiers[1:]:
            times = [line.split()[-1] for line in tier.splitlines() if "xm" in line]
            assert float(times[2]) == 0.0 and times[3:-1:2] == times[4::2] and times[-1] == times[1]


def test_textgrids_are_whole_and_quote_as_praat_does():
    grid = textgrid(
        {"words": [TimedLabel(0.0, 0.5, '"quote'), TimedLabel(0.5, 1.25, "")], "p": [TimedLabel(0, 1.25, "A")]}
    )
    lines = [line.strip() for line in grid.splitlines()]
    assert lines[3:8] == ["xmin = 0", "xmax = 1.250", "tiers? <exists>", "size = 2", "item []:"]
    assert [line for line in lines if line.startswith("text")] == ['text = """quote"', 'text = ""', 'text = "A"']
    assert [line for line in lines if line.startswith("item [")][1:] == ["item [1]:", "item [2]:"]
    assert [line for line in lines if "intervals" in line] == [
        "intervals: size = 2", "intervals [1]:", "intervals [2]:", "intervals: size = 1", "intervals [1]:"
    ]  # fmt: skip
    for nothing in ({}, {"words": []}, {"words": [TimedLabel(0, 1.25, "a")], "p": []}):
        with pytest.raises(DataError, match="no frames"):
            textgrid(nothing)


def test_only_a_folder_of_textgrids_is_replaced(tmp_path):
    grids = tmp_path / "grids"
    grids.mkdir()
    (grids / "old.TextGrid").write_text("of an utterance that is gone")
    (grids / "old.wav").write_text("not ours to remove")
    with pytest.raises(DataError, match=r"holds old\.wav, which is no TextGrid"):
        run(["ali-to-ctm", "--format=textgrid", *inputs("mono"), str(grids)])
    assert (grids / "old.wav").exists()
    (grids / "old.wav").unlink()
    run(["ali-to-ctm", "--format=textgrid", *inputs("mono"), str(grids)])
    assert sorted(grid.stem for grid in grids.iterdir()) == [line[0] for line in fields(TEXT)]


def test_silence_that_a_pronunciation_has_is_of_the_word(tmp_path):
    """Without word positions only the lexicon tells such a silence from an optional one."""
    dictionary = tmp_path / "dict"
    dictionary.mkdir()
    (dictionary / "silence_phones.txt").write_text("SIL\n")
    (dictionary / "optional_silence.txt").write_text("SIL\n")
    (dictionary / "nonsilence_phones.txt").write_text("A\nB\n")
    (dictionary / "lexicon.txt").write_text("stop A SIL\npause A SIL B\na A\nb B\n!SIL SIL\n")
    prepare_lang(dictionary, "b", tmp_path / "lang", LangOptions(position_dependent_phones=False))
    words, phones = (SymbolTable.read(tmp_path / "lang" / name).id_of for name in ("words.txt", "phones.txt"))
    times = WordTimes(tmp_path / "lang" / "L.fst", [phones["SIL"]])

    def found(spoken: str, transcript: str) -> list[tuple[str, int]]:
        spans = [Interval(n, n + 1, phones[phone]) for n, phone in enumerate(spoken.split())]
        name = {number: word for word, number in words.items()} | {0: "-"}
        intervals = times.intervals(spans, [words[word] for word in transcript.split()])
        return [(name[i.label], i.end - i.begin) for i in intervals]

    assert found("SIL A SIL SIL B SIL", "stop b") == [("-", 1), ("stop", 2), ("-", 1), ("b", 1), ("-", 1)]
    assert found("A SIL B SIL A SIL", "pause stop") == [("pause", 3), ("-", 1), ("stop", 2)]
    assert found("SIL A SIL B", "a b") == [("-", 1), ("a", 1), ("-", 1), ("b", 1)]  # A ended "stop" too early
    assert found("SIL B", "!SIL b") == [("!SIL", 1), ("b", 1)]
    assert found("SIL", "") == [("-", 1)]


def test_a_word_before_its_pronunciation_begins_at_the_first_phone(tmp_path):
    """Lexicons made by other tools than Kaldi's may have the word on an arc of its own."""
    lexicon = "0 1 0 7\n1 2 0 0\n2 0 3 0\n0 4 0 8\n4 5 0 0\n5 0 4 0\n0\n"
    kaldifst.compile(lexicon, acceptor=False).write(str(tmp_path / "L.fst"))
    times = WordTimes(tmp_path / "L.fst", [])
    phones = [Interval(0, 2, 3), Interval(2, 5, 4), Interval(5, 6, 3)]
    assert times.intervals(phones, [7, 8, 7]) == [Interval(0, 2, 7), Interval(2, 5, 8), Interval(5, 6, 7)]


def test_a_transcript_of_other_words_is_counted_as_skipped(tmp_path):
    (tmp_path / "text").write_text(TEXT.read_text().replace("six four", "six five"))
    options = ["--level=word", f"--lang-dir={LANG}", f"--text={tmp_path / 'text'}"]
    with pytest.raises(DataError, match=r"no_times .*engb_f2-005: the lexicon does not make"):
        run(["ali-to-ctm", *options, *inputs("mono"), str(tmp_path / "ctm")])
    assert not (tmp_path / "ctm").exists()
    run(["ali-to-ctm", *options, "--max-skip-fraction=0.5", *inputs("mono"), str(tmp_path / "ctm")])
    assert "engb_f2-005" not in {line[0] for line in fields(tmp_path / "ctm")}


def test_faults_of_the_command_line(tmp_path):
    with pytest.raises(ConfigError, match="needs --lang-dir and --text"):
        run(["ali-to-ctm", "--level=word", *inputs("mono"), str(tmp_path / "ctm")])
    for frame_shift in ("0", "nan", "inf"):
        with pytest.raises(ConfigError, match="must be positive"):
            run(["ali-to-ctm", f"--frame-shift={frame_shift}", *inputs("mono"), str(tmp_path / "ctm")])
    with TableWriter(f"ark:{tmp_path / 'ali'}", "int_vector") as writer:
        for _, ali in list(read_table(inputs("mono")[1], "int_vector"))[:1]:
            writer.write("../up", ali)
    with pytest.raises(DataError, match="with / cannot be"):
        run(["ali-to-ctm", "--format=textgrid", inputs("mono")[0], f"ark:{tmp_path / 'ali'}", str(tmp_path / "grids")])
