"""`acoustic compare`: tables of runs in text, Markdown and HTML."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from acoustic.analysis.compare import Run, curves, flatten
from acoustic.analysis.records import labels_of
from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from tests.analysis.browser import Browser, find_browser

BROWSER = find_browser()
REF = "u1 a b c\nu2 d e\nu3 f\n"
PERFECT, BAD = REF, "u1 a x c\nu2 d\nu3 g\n"


@pytest.fixture
def scored(tmp_path: Path) -> list[str]:
    for name, text in (("ref", REF), ("perfect", PERFECT), ("bad", BAD)):
        (tmp_path / name).write_text(text)
    return [f"--ref={tmp_path}/ref", f"--hyp={tmp_path}/bad", f"--hyp={tmp_path}/perfect"]


def test_only_differing_settings_and_word_errors_with_significance(world, scored, capsys):
    run(["compare", *scored, f"{world}/relu", f"{world}/sigmoid"])
    lines = capsys.readouterr().out.splitlines()
    settings = lines[: lines.index("")]
    assert settings[1].split() == ["setting", "relu", "sigmoid"]
    assert [line.split() for line in settings[3:]] == [["model.activation", "relu", "sigmoid"]]
    text = "\n".join(lines)
    assert "2.5000 (30.00)" in text and "1.2500 (30.00)" in text
    assert "640" in text  # frames per second: 10 steps of 64 frames
    bad, perfect = (line.split() for line in lines[-2:])
    assert bad[:2] == ["relu", "50.00"] and perfect[:2] == ["sigmoid", "0.00"]
    assert "-50.00" in perfect and "*" in perfect and perfect[-2:] == ["100.0", "%"]


def test_markdown_and_html(world, scored, tmp_path, capsys):
    page = tmp_path / "page.html"
    run(["compare", "--markdown=-", f"--html={page}", *scored, f"{world}/relu", f"{world}/leaky_relu"])
    markdown = capsys.readouterr().out
    assert "| model.activation | relu | leaky_relu |" in markdown and "|---|---:|---:|" in markdown
    assert "<script" not in page.read_text()
    if BROWSER is None:
        pytest.skip("no chromium on PATH")
    with Browser(BROWSER, tmp_path / "profile") as browser:
        for width in (400, 1400):
            browser.open(page, width)
            assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.complaints == []
        assert browser.evaluate("document.querySelectorAll('svg').length") == 2


def test_hypotheses_beside_the_model_and_unfinished_runs(world, tmp_path, capsys):
    for name in ("one", "other"):
        shutil.copytree(world / "relu", tmp_path / name / "dnn")
    (tmp_path / "one" / "dnn" / "text").write_text(REF)
    (tmp_path / "other" / "dnn" / "final.pt").unlink()
    (tmp_path / "ref").write_text(REF)
    run(["compare", f"--ref={tmp_path}/ref", str(tmp_path / "one" / "dnn"), str(tmp_path / "other" / "dnn")])
    out = capsys.readouterr().out
    assert "one/dnn" in out and "not finished" in out and "Settings" not in out
    assert out.splitlines()[-1].split()[:2] == ["one/dnn", "0.00"]


def test_what_is_refused(world, tmp_path):
    with pytest.raises(ConfigError, match="--ref"):
        run(["compare", "--hyp=x", f"{world}/relu"])
    with pytest.raises(ConfigError, match="one for each"):
        run(["compare", "--ref=r", "--hyp=x", f"{world}/relu", f"{world}/sigmoid"])
    with pytest.raises(DataError, match="no training run"):
        run(["compare", str(tmp_path)])
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1\n')
    with pytest.raises(DataError, match="line 1"):
        run(["compare", str(tmp_path)])


def test_long_curves_are_thinned_and_rejections_named():
    records = [
        {"epoch": epoch, "dev_loss": 1.0 / epoch, "dev_accuracy": 0.5, "accepted": epoch != 100}
        for epoch in range(1, 101)
    ]
    records.insert(3, {"epoch": 3, "rolled_back_to": 10})
    grid = curves([Run("run", {}, json.loads(json.dumps(records)), [], None, 0)])
    assert len(grid.rows) == 12 and grid.rows[0][0] == "1" and grid.rows[-1][0] == "100"
    assert grid.rows[-1][1].endswith("rejected")


def test_labels_and_keys():
    assert labels_of(["/a/one/dnn", "/a/two/dnn"]) == ["one/dnn", "two/dnn"]
    assert labels_of(["/a/x"]) == ["x"] and labels_of(["/a/x", "/a/x"]) == ["x", "x"]
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
