# Decoding and scoring with Kaldi's own programs, by scripts/decode_kaldi.sh and score_kaldi.sh; to be sourced by
# stages.sh.
#
# Lattices are made once, from loglikes that stream into the decoder; language-model weight (4 to 30) and insertion
# penalty (0, 0.5, 1) are chosen on dev, over dev's lattices, as Kaldi's score.sh would choose them on the set itself.

kaldi_programs="latgen-faster-mapped lattice-scale lattice-add-penalty lattice-best-path compute-wer"
kaldi_scripts=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../../scripts" && pwd)
kaldi_tuning=(--min-lmwt 4 --max-lmwt 30 --penalties 0.0,0.5,1.0)
kaldi_decoding=() # options of decode_kaldi.sh

# choose_decoder auto|kaldi|acoustic: print the decoder to use; auto takes Kaldi's programs if all are on PATH.
choose_decoder() {
  local program missing=
  for program in $kaldi_programs; do
    command -v "$program" > /dev/null || missing+=" $program"
  done
  case "$1" in
    acoustic) echo acoustic ;;
    kaldi) [ -z "$missing" ] && echo kaldi || die "--decoder kaldi: not on PATH:$missing" ;;
    auto) [ -z "$missing" ] && echo kaldi || echo acoustic ;;
    *) die "--decoder $1: choose auto, kaldi or acoustic" ;;
  esac
}

# Nothing to write: the loglikes stream into the decoder.
loglikes_for_kaldi() { :; }

# kaldi_lattices SET: decode into decode/SET/lat.N.gz.
kaldi_lattices() {
  local num_utts
  need_files "$network/final.pt"
  num_utts=$(wc -l < "$exp/data/$1/feats.scp")
  "$kaldi_scripts/decode_kaldi.sh" "${kaldi_decoding[@]}" --nj "$((num_jobs < num_utts ? num_jobs : num_utts))" \
    --model "$model_dir/final.mdl" ${transforms[$1]:+--fmllr "${transforms[$1]}"} \
    "$network" "$exp/data/$1" "$graph_dir" "$exp/decode/$1"
}

# The lattices of dev; weights are chosen when they are scored.
tune_with_kaldi() {
  kaldi_lattices "$tuning_set"
}

# The lattices of test.
decode_with_kaldi() {
  kaldi_lattices test
}

# Write decode/SET/wer and decode/SET/text of dev and test.
score_with_kaldi() {
  score_lattices "$graph_dir" "$exp/decode/$tuning_set" "$exp/decode/test"
}

# score_lattices GRAPH_OR_LANG_DIR DEV_DECODE_DIR TEST_DECODE_DIR: choose weights on dev, write wer and text of both and,
# in TEST_DECODE_DIR/weights, what was chosen.
score_lattices() {
  local chosen folder
  rm -f "$3"/wer_*
  "$kaldi_scripts/score_kaldi.sh" "${kaldi_tuning[@]}" --tune-on "$2" "$exp/data/test" "$1" "$3" > "$3/wers"
  chosen=$(basename "$3"/wer_*_*)
  chosen=${chosen#wer_}
  for folder in "$2" "$3"; do
    cp "$folder/scoring_kaldi/penalty_${chosen#*_}/${chosen%%_*}.txt" "$folder/text"
  done
  head -n 1 "$3/wers" > "$2/wer"
  tail -n 1 "$3/wers" > "$3/wer"
  echo "${chosen%%_*} ${chosen#*_}" > "$3/weights"
}
