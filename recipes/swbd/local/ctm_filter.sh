#!/usr/bin/env bash
# Between decoding and sclite, as local/score_sclite.sh of egs/swbd/s5c: drops what the Hub5 rules leave out and spells
# acronyms (u._s._) as the reference does, where the experiment in $kaldi_dir has their map.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
acronyms=${kaldi_dir:-}/data/local/dict_nosp/acronyms.map
drop=(awk -f "$here/../../../scripts/kaldi/hub5_ctm.awk")
if [ -e "$acronyms" ] && [ -e "$kaldi_dir/local/map_acronyms_ctm.py" ]; then
  "${drop[@]}" | python3 "$kaldi_dir/local/map_acronyms_ctm.py" -M "$acronyms" -i - -o -
else
  "${drop[@]}"
fi
