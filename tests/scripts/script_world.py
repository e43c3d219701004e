"""A small experiment on disk, and running the scripts in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def write(path: Path, text: str) -> Path:
    """Write a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class World:
    """Data, graph and a network of five utterances, and a PATH that holds only the system's programs and `bin`.

    Attributes:
        root: the folder the scripts run in.
        bin: a folder at the head of PATH.
        calls: where stand-ins note their command lines.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.calls = root, root / "bin", root / "calls"
        self.bin.mkdir()
        utts = [f"spk{i // 2}-utt{i}" for i in range(5)]
        for data in ("data/dev", "data/test"):
            write(root / data / "feats.scp", "".join(f"{utt} {utt}.ark:0\n" for utt in utts))
            write(root / data / "utt2spk", "".join(f"{utt} {utt[:4]}\n" for utt in utts))
            write(root / data / "cmvn.scp", "spk0 c.ark:0\nspk1 c.ark:1\nspk2 c.ark:2\n")
            write(root / data / "text", "".join(f"{utt} one\n" for utt in utts))
        for name in ("HCLG.fst", "phones/word_boundary.int"):
            write(root / "model/graph" / name, "")
        write(root / "model/graph/words.txt", "<eps> 0\none 1\n<unk> 2\n")
        write(root / "model/final.mdl", "the model\n")
        write(root / "model/tree", "the tree\n")
        write(
            root / "exp/config.yaml", "train:\n  data_dir:\n  - data/train\n  ali_dir:\n  - model\n  - other\nseed: 1\n"
        )
        for name, text in {"words.txt": "<eps> 0\none 1\n<unk> 2\n", "oov.int": "2\n", "L.fst": ""}.items():
            write(root / "lang" / name, text)
        write(root / "lang/phones/disambig.int", "9\n")

    def run(self, script: str, *args: str, path: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script, in no environment but PATH and what is given."""
        path = path or f"{self.bin}:/usr/local/bin:/usr/bin:/bin"
        return subprocess.run(
            [SCRIPTS / script, *args],
            cwd=self.root,
            env={"PATH": path, "FAKE_CALLS": str(self.calls), "HOME": os.environ.get("HOME", "/"), **env},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def decode(
        self, *options: str, out: str = "out", data: str = "data/test", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run decode_kaldi.sh on a data directory."""
        return self.run("decode_kaldi.sh", *options, "exp", data, "model/graph", out, **env)
