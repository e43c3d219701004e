"""Exported ONNX files under onnxruntime give our own outputs for utterances of any length."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoustic.cli.info import describe
from acoustic.errors import ConfigError, DataError
from acoustic.exchange import onnx_export
from acoustic.exchange.onnx_export import export_onnx
from acoustic.exchange.stages import split
from tests.exchange.models import (
    FRONTENDS,
    NUM_PDFS,
    expected,
    features_outside,
    make_bundle,
    make_frontend,
    utterances,
)

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("nothing", {"activations": ["elu", "gelu", "silu"], "hidden_dims": [6, 5, 4]}),
    ("splicing", {"activations": ["relu", "leaky_relu", "prelu"], "hidden_dims": [6, 5, 4], "norm": "batch"}),
    ("deltas", {"activations": ["sigmoid", "tanh", "maxout"], "hidden_dims": [6, 5, 4], "dropout": 0.5}),
    ("global and lda", {"activations": ["gaaf_relu", "gaaf_tanh"], "hidden_dims": [6, 5], "norm": "layer"}),
    ("global and deltas", {"hidden_dims": [6]}),
    ("lda and mllt", {"hidden_dims": [6]}),
    ("fmllr", {"hidden_dims": [6]}),
]


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_onnxruntime_gives_our_outputs_for_any_length(tmp_path: Path, name: str, model: dict[str, Any]) -> None:
    frontend = make_frontend(FRONTENDS[name])
    bundle = make_bundle(frontend, **model)
    export_onnx(bundle, frontend, tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    assert not isinstance(session.get_inputs()[0].shape[0], int)
    pipeline = session.get_modelmeta().custom_metadata_map["feature_pipeline"]
    assert ("apply-cmvn" in pipeline, "trans." in pipeline) == (FRONTENDS[name].cmvn == "speaker", name == "fmllr")
    what, *details = describe(tmp_path / "model.onnx")
    assert what == f"ONNX network: {split(frontend).dim} values in a frame, {NUM_PDFS} outputs"
    assert details == [f"features: {pipeline}"]
    for utterance in utterances(frontend):
        features = features_outside(split(frontend).outside, utterance)
        posteriors, loglikes = session.run(["log_posteriors", "loglikes"], {"features": features})
        ours = expected(bundle, utterance)
        np.testing.assert_allclose(posteriors, ours[0], atol=1e-4)
        np.testing.assert_allclose(loglikes, ours[1], atol=1e-4, rtol=1e-5)


def test_a_model_that_onnxruntime_computes_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    frontend = make_frontend(FRONTENDS["nothing"])
    with pytest.raises(DataError, match="onnxruntime computes other"):
        export_onnx(make_bundle(frontend, hidden_dims=[6]), frontend, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch" + b"\xff" * 20)
    with pytest.raises(DataError, match=r"model\.onnx: cannot be read as ONNX"):
        list(describe(tmp_path / "model.onnx"))


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return original(name, *args, **options)

    monkeypatch.setattr(onnx_export.importlib, "import_module", refuse)
    frontend = make_frontend(FRONTENDS["nothing"])
    with pytest.raises(ConfigError, match="onnxruntime is not installed: install acoustic with its extra `onnx`"):
        export_onnx(make_bundle(frontend, hidden_dims=[6]), frontend, tmp_path / "model.onnx")
