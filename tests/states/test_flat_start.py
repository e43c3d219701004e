"""Flat start: Gaussians, cepstra, and alignments that become those of the model which made the features."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import read_alignments, read_model, to_pdfs, to_phones
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.states.cepstra import cosine_transform, gaussian_features
from acoustic.states.flat_start import FlatStartOptions, flat_start
from acoustic.states.mixtures import Mixtures, split_targets
from acoustic.states.train_gmm import GmmOptions, train_gmm

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "model" / "mono" / "final.mdl"
GRAPHS = f"ark:{GOLDEN / 'align' / 'mono' / 'graphs.fsts'}"


@pytest.fixture(scope="module")
def model():
    return TransitionModel.read(MODEL)


@pytest.fixture(scope="module")
def alignments():
    return dict(read_table(f"ark:{GOLDEN / 'align' / 'mono' / 'ali.ark'}", "int_vector"))


@pytest.fixture(scope="module")
def features(model, alignments):
    """Of each pdf its own mean, far from the others, and little noise."""
    random = np.random.default_rng(0)
    means = 3.0 * random.standard_normal((model.num_pdfs, 13))
    return {
        utt: (means[model.pdf_of[ids]] + 0.3 * random.standard_normal((len(ids), 13))).astype(np.float32)
        for utt, ids in alignments.items()
    }


@pytest.fixture(scope="module")
def frames(model, alignments, features):
    """All frames, [num_frames, 13], and their pdfs."""
    pdfs = np.concatenate([to_pdfs(model, utt, ids) for utt, ids in alignments.items()])
    return np.concatenate([features[utt] for utt in alignments]), pdfs


def test_single_gaussians_are_means_and_variances_of_their_frames(model, frames):
    x, pdfs = frames
    start = Mixtures.of_all_frames(x, model.num_pdfs)
    floor = 0.01 * start.variances[0]
    mixtures, num_frames = start.reestimated(start.counted(x, pdfs), floor)
    np.testing.assert_allclose(num_frames, np.bincount(pdfs, minlength=model.num_pdfs))
    pdf = int(num_frames.argmax())
    mine = x[pdfs == pdf].astype(np.float64)
    np.testing.assert_allclose(mixtures.means[pdf], mine.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mixtures.variances[pdf], np.maximum(mine.var(axis=0), floor), rtol=1e-4)
    unseen = np.flatnonzero(num_frames == 0)
    np.testing.assert_allclose(mixtures.variances[unseen], np.tile(x.var(axis=0), (len(unseen), 1)), rtol=1e-4)
    density = -0.5 * (
        (x[:5, None] - mixtures.means) ** 2 / mixtures.variances + np.log(2 * np.pi * mixtures.variances)
    ).sum(axis=2)
    np.testing.assert_allclose(mixtures.loglikes(x[:5]), density, rtol=1e-3)


def test_gaussians_are_split_in_halves_and_find_two_clusters():
    random = np.random.default_rng(3)
    side = random.choice([-4.0, 4.0], size=(4000, 1))
    x = (np.hstack([side, 0.0 * side]) + random.standard_normal((4000, 2))).astype(np.float32)
    pdfs = np.repeat(np.array([0, 2], dtype=np.int32), [3960, 40])  # pdf 1 has no frames, pdf 2 too few to split
    single = Mixtures.of_all_frames(x, 3)
    floor, num_frames = 0.01 * single.variances[0], single.counted(x, pdfs).frames
    grown = single.grown(10, num_frames, random)
    assert grown.first.tolist() == [0, 8, 9, 10] and grown.num_gauss == 10
    np.testing.assert_allclose(grown.weights[:8] @ grown.means[:8], single.means[0], rtol=1e-6)
    np.testing.assert_allclose(grown.weights[:8], 0.125)
    split = single.grown(4, num_frames, random)
    mixtures = replace(split, means=split.means + np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    for _ in range(40):
        mixtures, num_frames = mixtures.reestimated(mixtures.counted(x, pdfs), floor)
    np.testing.assert_allclose(mixtures.means[:2, 0], [-4.0, 4.0], atol=0.2)
    np.testing.assert_allclose(mixtures.variances[:2], 1.0, atol=0.2)
    np.testing.assert_allclose(np.add.reduceat(mixtures.weights, mixtures.first[:-1]), 1.0)
    assert mixtures.loglikes(x[:3960])[:, 0].mean() > single.loglikes(x[:3960])[:, 0].mean() + 0.5


def test_gaussians_with_too_few_frames_are_dropped_but_for_the_last():
    x = np.array([[0.0]] * 30 + [[9.0]] * 5, dtype=np.float32)
    first, ones = np.array([0, 2, 4]), np.ones((4, 1))
    mixtures = Mixtures(first, np.full(4, 0.5), np.array([[0.0], [9.0], [0.0], [9.0]]), ones)
    counts = mixtures.counted(x, np.zeros(35, dtype=np.int32))
    kept, num_frames = mixtures.reestimated(counts, np.array([0.25]))
    assert kept.first.tolist() == [0, 1, 2] and num_frames.tolist() == [pytest.approx(30.0), 0.0]
    assert kept.weights.tolist() == [1.0, 1.0] and kept.variances[:, 0].tolist() == [0.25, 1.0]


def test_frames_decide_how_many_gaussians_a_pdf_gets():
    assert split_targets(np.array([10000.0, 10000.0 * 2**4, 0.0]), 6).tolist() == [2, 3, 1]
    assert split_targets(np.array([70.0, 30.0]), 100).tolist() == [3, 1]


def test_a_dimension_that_never_varies_makes_no_difference():
    """Filters above the band of the recordings, for instance."""
    random = np.random.default_rng(0)
    varying, pdfs = random.standard_normal((200, 2)), random.integers(0, 2, 200).astype(np.int32)
    found = []
    for features in (varying, np.column_stack([varying, np.full(200, -1e-17)])):
        mixtures = Mixtures.of_all_frames(features, 2)
        mixtures, _ = mixtures.reestimated(mixtures.counted(features, pdfs), 0.01 * mixtures.variances[0])
        loglikes = mixtures.loglikes(features)
        assert np.all(np.isfinite(loglikes))
        found.append(loglikes[:, 0] - loglikes[:, 1])
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_features_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="NaN"):
        Mixtures.of_all_frames(np.full((3, 2), np.nan), 2)
    with pytest.raises(DataError, match="no frames"):
        Mixtures.of_all_frames(np.zeros((0, 2)), 2)


def test_schedule_is_that_of_train_mono():
    options = FlatStartOptions()
    aligned = [iteration for iteration in range(1, 41) if options.aligns_after(iteration)]
    assert aligned == [*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38, 40]
    assert [options.num_gauss_at(iteration, 100) for iteration in (1, 2, 3, 17, 32, 40)] == [
        100,
        100,
        130,
        550,
        1000,
        1000,
    ]
    with pytest.raises(ValueError, match="--num-gauss"):
        FlatStartOptions(num_gauss=0)


def test_schedule_is_that_of_train_deltas():
    options = GmmOptions(num_gauss=1100)
    assert [iteration for iteration in range(1, 36) if options.aligns_after(iteration)] == [10, 20, 30, 35]
    assert [options.num_gauss_at(iteration, 100) for iteration in (1, 2, 3, 27, 35)] == [100, 100, 140, 1100, 1100]
    for wrong in ({"realign_iters": "10,20"}, {"boost_silence": 0.0}, {"retry_beam": 5.0}, {"max_iter_inc": 0}):
        with pytest.raises(ValueError, match="--" + next(iter(wrong)).replace("_", "-")):
            GmmOptions(**wrong)


def test_rounds_find_the_phones_that_made_the_features(model, alignments, features):
    graphs = dict(read_table(GRAPHS, "fst"))
    rounds = []
    many_features = {f"{utt}-{copy}": x for copy in range(3) for utt, x in features.items()}
    many_graphs = {f"{utt}-{copy}": graphs[utt] for copy in range(3) for utt in features}
    start = TransitionModel.from_tree(DecisionTree.read(MODEL.parent / "tree"), model.topology)
    estimated, found = flat_start(start, many_graphs, many_features, FlatStartOptions(8, 200, 6), report=rounds.append)
    likelihoods = [done.likelihood for done in rounds]
    assert likelihoods[-1] > likelihoods[0] and rounds[-1].num_moved < 0.05 * rounds[-1].num_frames
    right = sum(
        int(np.count_nonzero(to_phones(start, utt, ids) == to_phones(model, utt, alignments[utt[:-2]])))
        for utt, ids in found.items()
    )
    assert right > 0.5 * rounds[-1].num_frames
    assert estimated.fingerprint() == start.fingerprint()
    assert not np.array_equal(estimated.log_prob, start.log_prob)


@pytest.fixture(scope="module")
def copies(features):
    """Features and graphs of three times as many utterances."""
    graphs = dict(read_table(GRAPHS, "fst"))
    return (
        {f"{utt}-{copy}": x for copy in range(3) for utt, x in features.items()},
        {f"{utt}-{copy}": graphs[utt] for copy in range(3) for utt in features},
    )


def test_gaussians_of_good_alignments_mend_bad_ones(model, alignments, copies):
    """Two copies of each utterance are aligned, the third one begins without; all get the right alignment."""
    features, graphs = copies
    first = {f"{utt}-{copy}": ids for copy in range(2) for utt, ids in alignments.items()}
    rounds = []
    options = GmmOptions(4, 100, 2, realign_iters="2")
    estimated, found = train_gmm(model, graphs, features, first, options, report=rounds.append)
    assert len(rounds) == 2 and found.keys() == features.keys()
    assert rounds[0].num_moved > 0.3 * rounds[0].num_frames and rounds[1].num_moved < 0.02 * rounds[1].num_frames
    right = [to_pdfs(model, utt, ids) == to_pdfs(model, utt, alignments[utt[:-2]]) for utt, ids in found.items()]
    assert np.concatenate(right).mean() > 0.95
    assert not np.array_equal(estimated.log_prob, model.log_prob)


def test_boosted_silence_gets_more_frames(model, alignments, copies):
    features, graphs = copies
    first = {f"{utt}-0": ids for utt, ids in alignments.items()}
    noise = np.random.default_rng(1)
    noisy = {utt: (x + 9.0 * noise.standard_normal(x.shape)).astype(np.float32) for utt, x in features.items()}
    silence = [1, 2, 3, 4, 5]

    def num_silent(boost: float) -> int:
        _, found = train_gmm(model, graphs, noisy, first, GmmOptions(1, boost_silence=boost), silence_phones=silence)
        return sum(int(np.isin(to_phones(model, utt, ids), silence).sum()) for utt, ids in found.items())

    assert num_silent(20.0) > 1.1 * num_silent(1.0)


def test_alignments_of_other_features_are_refused(model, alignments, copies):
    features, graphs = copies
    utt = next(iter(alignments))
    with pytest.raises(DataError, match="of alignment"):
        train_gmm(model, graphs, features, {f"{utt}-0": alignments[utt][:-1]}, GmmOptions(1))
    with pytest.raises(DataError, match="no utterance can be aligned"):
        train_gmm(model, graphs, features, {"other": alignments[utt]}, GmmOptions(1))


def test_cepstra_are_without_the_speakers_mean_and_the_transform_is_orthonormal():
    matrix = cosine_transform(40, 40)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(40), atol=1e-12)
    random = np.random.default_rng(1)
    fbank = {utt: random.standard_normal((20, 23)).astype(np.float32) + 5.0 for utt in ("a", "b", "c")}
    made = gaussian_features(fbank, {"a": "x", "b": "x"})
    assert {x.shape for x in made.values()} == {(20, 39)} and list(made) == ["a", "b", "c"]
    np.testing.assert_allclose((made["a"] + made["b"])[:, :13].sum(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(made["c"][:, :13].sum(axis=0), 0.0, atol=1e-3)
    assert gaussian_features(fbank, {}, num_ceps=0)["a"].shape == (20, 69)
    with pytest.raises(DataError, match="24 cepstra"):
        gaussian_features(fbank, {}, num_ceps=24)


@pytest.fixture
def lang(tmp_path):
    """What trees need of a lang directory."""
    (tmp_path / "lang" / "phones").mkdir(parents=True)
    (tmp_path / "lang" / "topo").write_bytes((GOLDEN / "graph" / "lang" / "topo").read_bytes())
    for name in ("roots", "sets"):
        (tmp_path / "lang" / "phones" / f"{name}.int").write_bytes((GOLDEN / "tree" / f"{name}.int").read_bytes())
    (tmp_path / "lang" / "phones" / "context_indep.int").write_text("1\n2\n3\n4\n5\n")
    return tmp_path / "lang"


def test_from_graphs_and_features_to_context_dependent_alignments(tmp_path, lang, features):
    with TableWriter(f"ark:{tmp_path / 'feats'}", "matrix") as writer:
        for utt, matrix in features.items():
            writer.write(utt, matrix)
    feats, mono, tri = f"ark:{tmp_path / 'feats'}", tmp_path / "mono_ali", tmp_path / "tri"
    run(["flat-start", "--num-iters=2", "--num-ceps=0", "--num-jobs=1", str(MODEL), GRAPHS, feats, str(mono)])
    assert len(dict(read_alignments(mono))) == len(features)
    build = ["--num-leaves=70", "--thresh=1", "--num-ceps=0", str(lang), str(mono), feats, str(tri)]
    run(["build-tree", *build])
    model = read_model(tri)
    assert model.num_pdfs <= 70 and DecisionTree.read(tri / "tree").context_width == 3
    assert (
        model.fingerprint()
        == TransitionModel.from_tree(DecisionTree.read(tri / "tree"), Topology.read(lang / "topo")).fingerprint()
    )
    old, new, tree = (str(path) for path in (mono / "final.mdl", tri / "final.mdl", tri / "tree"))
    run(["convert-ali", old, new, tree, str(mono), f"ark:{tmp_path / 'ali'}"])
    for utt, ids in read_table(f"ark:{tmp_path / 'ali'}", "int_vector"):
        np.testing.assert_array_equal(
            to_phones(model, utt, ids), to_phones(read_model(mono), utt, dict(read_alignments(mono))[utt])
        )
    with pytest.raises(ConfigError, match="--num-leaves"):
        run(["build-tree", "--num-leaves=0", *build[1:]])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/tri.* cannot be written"):
        run(["build-tree", *build[:-1], str(tmp_path / "file" / "tri")])


def test_utterances_that_cannot_be_aligned_are_counted(tmp_path, features):
    with TableWriter(f"ark:{tmp_path / 'feats'}", "matrix") as writer:
        for number, (utt, matrix) in enumerate(features.items()):
            writer.write(utt, matrix[:4] if number == 0 else matrix)
        writer.write("unknown", np.zeros((5, 13), dtype=np.float32))
    arguments = [
        "--num-iters=1",
        "--num-jobs=1",
        str(MODEL),
        GRAPHS,
        f"ark:{tmp_path / 'feats'}",
        str(tmp_path / "ali"),
    ]
    with pytest.raises(DataError, match="no_graph"):
        run(["flat-start", *arguments])
    (tmp_path / "utt2spk").write_text("somebody else\n")
    with pytest.raises(DataError, match=r"utt2spk, utterance .*: has no speaker for 6 utterances; give"):
        run(["flat-start", f"--utt2spk=ark:{tmp_path / 'utt2spk'}", *arguments])
    assert not (tmp_path / "ali").exists()
    run(["flat-start", "--max-skip-fraction=0.5", *arguments])
    assert len(dict(read_alignments(tmp_path / "ali"))) == len(features) - 1


@pytest.mark.parametrize("verb", ["flat-start", "train-gmm", "build-tree"])
def test_where_nothing_can_be_written_no_work_begins(tmp_path, verb):
    """None of the inputs is there: nothing has been read when the output is refused."""
    inputs = {"flat-start": ["mdl", "ark:graphs", "ark:feats"], "build-tree": ["lang", "ali", "ark:feats"]}
    inputs["train-gmm"] = [*inputs["flat-start"], "ark:ali"]
    (tmp_path / "file").touch()
    (tmp_path / "gmm").mkdir()
    shutil.copy(GOLDEN / "model" / "tri1" / "final.mdl", tmp_path / "gmm")  # with its Gaussians
    for output, match in (("file/ali", "Not a directory"), ("gmm", "GMM acoustic model, which would be lost")):
        with pytest.raises(DataError, match=match):
            run([verb, *inputs[verb], str(tmp_path / output)])


def test_alignments_given_to_train_gmm_are_realigned(tmp_path, features, caplog):
    with TableWriter(f"ark:{tmp_path / 'feats'}", "matrix") as writer:
        for utt, matrix in features.items():
            writer.write(utt, matrix)
    given, model = GOLDEN / "align" / "tri1", GOLDEN / "model" / "tri1" / "final.mdl"
    options = ["--num-iters=2", "--num-gauss=200", "--num-ceps=0", "--num-jobs=1"]
    inputs = [str(model), f"ark:{given / 'graphs.fsts'}", f"ark:{tmp_path / 'feats'}", str(given)]
    run(["train-gmm", *options, *inputs, str(tmp_path / "ali")])
    made, triphones = read_model(tmp_path / "ali"), TransitionModel.read(model)
    assert made.fingerprint() == triphones.fingerprint()
    before = dict(read_alignments(given))
    for utt, ids in read_alignments(tmp_path / "ali"):
        same = to_phones(made, utt, ids) == to_phones(triphones, utt, before[utt])
        assert same.mean() > 0.5
    assert "another model" not in caplog.text
    inputs[-1] = str(GOLDEN / "align" / "mono")
    run(["train-gmm", "--max-skip-fraction=0.5", *options, *inputs, str(tmp_path / "ali")])
    assert f"only 49 % of the steps between HMM states are possible in {model}; if another model" in caplog.text
    assert "made the graphs" not in caplog.text
    inputs[1:] = [GRAPHS, inputs[2], str(given)]
    run(["train-gmm", "--max-skip-fraction=1", *options, *inputs, str(tmp_path / "ali")])
    assert re.search(r"graphs\.fsts: only \d+ % of the steps .* if another model made the graphs, compile", caplog.text)
    with pytest.raises(ConfigError, match="needs --silence-phones"):
        run(["train-gmm", "--boost-silence=1.5", *inputs, str(tmp_path / "ali")])
    with pytest.raises(ConfigError, match="colon-separated"):
        run(["train-gmm", "--silence-phones=1,2", *inputs, str(tmp_path / "ali")])
