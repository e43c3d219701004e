"""`acoustic analyze`: the page in a real browser, the files beside it, what it refuses."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.analysis.dataset import DataSet
from acoustic.analysis.html import aligned, number, table
from acoustic.analysis.phones import PhoneSet
from acoustic.cli.main import run
from acoustic.decode.forward import AcousticModel
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import read_model
from acoustic.kaldi.symbols import SymbolTable
from acoustic.log import Tally
from tests.analysis.browser import Browser, find_browser

BROWSER = find_browser()

CHECK_IMAGES = """
(async () => {
  const sources = [...document.querySelectorAll('svg image')].map(
    image => image.getAttribute('href') || image.getAttributeNS('http://www.w3.org/1999/xlink', 'href'));
  const sizes = await Promise.all(sources.map(source => new Promise(resolve => {
    const image = new Image();
    image.onload = () => resolve(image.naturalWidth);
    image.onerror = () => resolve(0);
    image.src = source;
  })));
  const loaded = [...document.images].map(image => image.naturalWidth);
  const boxes = [...document.querySelectorAll('svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    return Math.min(box.width, box.height);
  });
  return {images: [...sizes, ...loaded], figures: boxes};
})()
"""
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(element => {
  if (element.closest('.scroll, .panel, svg')) return false;
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1;
}).map(element => element.outerHTML.slice(0, 80))
"""


def analyze(world: Path, out: Path, *options: str) -> Path:
    run(["analyze", f"--ali-dir={world}/ali", "--num-frames=400", "--num-worst=1", "--num-threads=1", *options,
         f"{world}/relu", f"{world}/data", str(out)])  # fmt: skip
    return out


@pytest.fixture(scope="module")
def report(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    others = [f"--also={world}/leaky_relu", f"--also={world}/sigmoid"]
    return analyze(world, out, f"--graph-dir={world}/graph", *others)


def rows(report: Path, name: str) -> list[dict[str, str]]:
    with open(report / "tables" / name, encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(report, tmp_path, dark):
    with Browser(str(BROWSER), tmp_path) as browser:
        for width in (400, 1400):
            browser.open(report / "report.html", width, dark)
            assert browser.evaluate("document.documentElement.scrollWidth") == width
            assert browser.evaluate(OVERFLOWING) == []
            found = browser.evaluate(CHECK_IMAGES)
            assert len(found["figures"]) == len(list((report / "figures").glob("*.png")))
            assert min(found["figures"]) > 60
            assert len(found["images"]) > 12 and min(found["images"]) > 0
            # Text of figures stays readable: no smaller than 7 pixels, whatever the width.
            smallest = browser.evaluate(
                "Math.min(...[...document.querySelectorAll('.panel svg')].map(svg => "
                "svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"
            )
            assert smallest > 0.85
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        luminance = sum(map(int, re.findall(r"\d+", background)[:3]))
        assert luminance < 150 if dark else luminance > 600
        for anchor in browser.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))"):
            assert browser.evaluate(f"document.querySelector({anchor!r}) !== null")
        assert browser.complaints == []
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)


def test_the_page_needs_nothing_else(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "@import" not in page and "<iframe" not in page
    for address in re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page):
        assert address.startswith(("#", "data:"))
    assert not re.search(r'xlink:href="(?!#|data:)', page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for heading in ("sparse", "gradients", "units look for", "recogniser", "Errors"):
        assert heading in page


def test_tables_agree_with_the_network(world, report):
    data = DataSet.read(world / "data", world / "ali", world / "graph")
    model = AcousticModel.load(world / "sigmoid")
    losses, right = [], []
    for item in data.frames(model, Tally()):
        (log_posteriors,) = model.log_posteriors([item.base])
        pdfs = torch.from_numpy(data.transition_model.pdf_of[item.alignment].astype(np.int64))
        losses.append(-log_posteriors[torch.arange(len(pdfs)), pdfs])
        right.append(log_posteriors.argmax(1) == pdfs)
    (found,) = [row for row in rows(report, "models.csv") if row["model"] == "sigmoid"]
    assert float(found["cross_entropy"]) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(float(torch.cat(right).float().mean()), rel=1e-5)
    assert int(found["frames"]) == data.num_frames
    by_layer = {(row["model"], row["layer"]): row for row in rows(report, "layers.csv")}
    assert float(by_layer["relu", "hidden 1"]["zero_share"]) > 0.2
    assert float(by_layer["leaky_relu", "hidden 1"]["zero_share"]) == 0
    utterances = [row for row in rows(report, "utterances.csv") if row["model"] == "relu"]
    assert {row["utterance"]: row["reference"].split() for row in utterances} == data.data_dir.text
    assert sum(int(row["frames"]) for row in rows(report, "phones.csv")) == 3 * data.num_frames
    assert {row["speaker"] for row in rows(report, "speakers.csv")} == set(data.data_dir.utt2spk.values())


def test_without_graph_audio_and_text(world, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("feats.scp", "utt2spk"):
        (data / name).write_bytes((world / "data" / name).read_bytes())
    options = [f"--ali-dir={world}/ali", "--num-frames=100", "--num-worst=0", "--num-threads=1"]
    run(["analyze", *options, f"{world}/relu/final.pt", str(data), str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nothing was decoded" in page and "Worst" not in page
    assert not (tmp_path / "out" / "tables" / "speakers.csv").exists()
    with pytest.raises(DataError, match="not replaced"):
        run(["analyze", *options, f"{world}/relu", str(data), str(data)])


def test_what_is_refused(world, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="--tuned"):
        analyze(world, out, "--tuned=x", "--tuned=y", f"--graph-dir={world}/graph")
    with pytest.raises(ConfigError, match="--graph-dir"):
        analyze(world, out, "--tuned=x")
    with pytest.raises(ConfigError, match="--num-frames"):
        analyze(world, out, "--num-frames=1")
    with pytest.raises(ConfigError, match="--silence-phones"):
        analyze(world, out, "--silence-phones=1:x")
    with pytest.raises(DataError, match="cannot be opened"):
        analyze(world, out, f"--ali-dir={world}/data")
    assert not out.exists() and not list(tmp_path.iterdir())


def test_phones_of_all_word_positions_are_one(world):
    model = read_model(world / "ali")
    phones = PhoneSet.make(model, SymbolTable.read(world / "graph" / "phones.txt"))
    assert "SIL" in phones.names and not any(name.endswith(("_B", "_E", "_I", "_S")) for name in phones.names)
    assert phones.silence[phones.names.index("SIL")] and phones.silence.sum() < len(phones.names)
    shares = phones.phone_of_pdf(model, [])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    unnamed = PhoneSet.make(model, None, {1})
    assert unnamed.names[0] == "1" and unnamed.silence[0] and unnamed.silence.sum() == 1


def test_the_sample_is_the_same_for_every_model_and_holds_each_frame_once(world):
    data = DataSet.read(world / "data", world / "ali")
    sample = data.sample(250)
    assert sum(map(len, sample.values())) == 250
    assert all(np.array_equal(data.sample(250)[utt], frames) for utt, frames in sample.items())
    everything = data.sample(10**9)
    assert all(np.array_equal(everything[utt], np.arange(len(ali))) for utt, ali in data.alignments.items())


def test_text_is_escaped():
    made = table(["<b>"], [["<i>&"]]) + aligned([("<w>", ""), ("", "&")])
    assert "<b>" not in made and "<i>" not in made and "<w>" not in made
    assert "&lt;i&gt;&amp;" in made and 'class="pair del"' in made and 'class="pair ins"' in made


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (0.12345, "0.123"), (1e-5, "1.00e-05"), (1234.6, "1235"), (float("nan"), "-")]
)
def test_numbers_for_people(value, text):
    assert number(value) == text
