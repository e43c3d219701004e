"""Stand-ins for the programs that the scripts run: small shell scripts that speak as Kaldi's do about lines of text."""

from __future__ import annotations

from pathlib import Path

# Kaldi's archives are lines here: `utterance number` are loglikes, lattices, graphs and alignments alike.
FAKES = {
    # The features' script file is the last argument but one; every utterance is answered with its speaker's statistics.
    "acoustic": """
for last; do [ "${last#scp:}" = "$last" ] || feats=${last#scp:}; done
if [ "$1" = cmvn ]; then echo "stats of all $(wc -l < "$feats")" > "${last#ark:}"; exit; fi
echo "$@" >> "$FAKE_CALLS"
while read -r utt _; do
  [ "$utt" != "${FAKE_LOSE:-}" ] || continue
  echo "$utt 1"
done < "$feats"
[ "${FAKE_CRASH:-}" != acoustic ] || { echo "acoustic: error: no memory" >&2; exit 3; }
""",
    "latgen-faster-mapped": """
echo "latgen-faster-mapped $*" >> "$FAKE_CALLS"
[ -z "${FAKE_KILL:-}" ] || kill -9 "$FAKE_KILL"
num=0
while read -r line; do echo "$line"; num=$((num + 1)); done
echo "LOG (latgen-faster-mapped[5.5]:main():latgen-faster-mapped.cc:167) Done $num utterances, failed for 0" >&2
""",
    "copy-feats": """
cat "${1#ark:}"
""",
    "compile-train-graphs": """
for last; do :; done
cat > "${last#ark:}"
""",
    "align-compiled-mapped": """
for arg; do case $arg in ark:/* | ark:*graphs*) graphs=${arg#ark:};; esac; done
cat > /dev/null
cat "$graphs"
num=$(wc -l < "$graphs")
echo "LOG (align-compiled-mapped[5.5]:main():align-compiled-mapped.cc:132) Done $num, errors on 0" >&2
""",
    "lattice-scale": "cat",
    "lattice-add-penalty": "cat",
    "lattice-best-path": "cat",
    "lattice-1best": "cat",
    "lattice-align-words": "cat",
    "nbest-to-ctm": 'while read -r utt word; do echo "$utt 1 0.10 0.20 $word"; done',
    # As many errors as the weight is away from 7 on development data, from 4 on other data; a penalty adds one.
    "compute-wer": """
hyp=${!#} best=4 number=${!#}
case $hyp in *dev*) best=7;; esac
number=${number##*/} number=${number%.txt}
errors=$((number > best ? number - best : best - number))
case $hyp in *penalty_0.5*) errors=$((errors + 1));; esac
echo "%WER $errors.00 [ $errors / 100, 0 ins, 0 del, $errors sub ]"
echo "%SER $errors.00 [ $errors / 100 ]"
echo "Scored $(wc -l < "${hyp#ark:}") sentences, ${FAKE_ABSENT:-0} not present in hyp."
""",
}


def install(folder: Path, names: list[str] | None = None) -> None:
    """Write the named programs, or all, to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAKES if names is None else names:
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{FAKES[name].strip()}\n")
        path.chmod(0o755)
