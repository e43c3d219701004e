# For the scripts that score lattices, to be sourced after common.sh: language model weight and insertion penalty are
# chosen on development data, then applied to what is reported.

# Options of scoring.
lmwt=             # language model weight, the inverse of the acoustic scale
wip=              # word insertion penalty, in units of the language model's costs
tune_on=          # decode-dir of the development data: chooses lmwt and wip
tune_data=        # its data-dir, when the decode-dir does not say (data_dir)
min_lmwt=4        # the range of weights to choose from,
max_lmwt=20       # both ends included
penalties=0.0,0.5,1.0

# check_scoring_options: end with an error unless either development data or both a weight and a penalty are given.
check_scoring_options() {
  if [ -n "$tune_on" ]; then
    [ -z "$lmwt$wip" ] || die "--tune-on chooses the weight and the penalty: leave --lmwt and --wip out"
    check_integers min_lmwt max_lmwt
    [ "$min_lmwt" -le "$max_lmwt" ] || die "--min-lmwt $min_lmwt is above --max-lmwt $max_lmwt"
    [[ $penalties =~ ^[0-9.-]+(,[0-9.-]+)*$ ]] || die "--penalties must be numbers between commas, not '$penalties'"
    check_names "$tune_on" ${tune_data:+"$tune_data"}
  else
    [ -n "$lmwt" ] && [ -n "$wip" ] || die "give --tune-on <decode-dir of development data> to choose weight and" \
      "penalty there, or both --lmwt and --wip; they are never chosen on the data that is reported"
    check_integers lmwt
    check_numbers wip
  fi
}

# choose_weights GRAPH_DIR: set `lmwt` and `wip`, unless given, to the values with fewest errors on the development data
# (on a draw, the least weight, then the least penalty), and `dev_wer_line` to the %WER line they give there.
choose_weights() {
  local penalty best
  dev_wer_line=
  [ -n "$tune_on" ] || return 0
  if [ -z "$tune_data" ]; then
    [ -f "$tune_on/data_dir" ] || die "$tune_on has no data_dir: give --tune-data, the data directory it was made from"
    tune_data=$(cat "$tune_on/data_dir")
  fi
  for penalty in ${penalties//,/ }; do
    score_words "$tune_on" "$tune_data" "$1" "$min_lmwt:$max_lmwt" "$penalty"
  done
  best=$(list_errors "$tune_on" | LC_ALL=C sort -n -k1,1 -k2,2 -k3,3 | sed -n 1p)
  read -r _ lmwt wip <<< "$best"
  note "language model weight $lmwt and insertion penalty $wip chosen on $tune_on"
  if [ "$lmwt" = "$min_lmwt" ] || [ "$lmwt" = "$max_lmwt" ]; then
    note "warning: the weight lies at the end of its range $min_lmwt ... $max_lmwt; widen it"
  fi
  dev_wer_line=$(grep '^%WER' "$tune_on/wer_${lmwt}_$wip")
}

# list_errors DECODE_DIR: a line `errors weight penalty` for every combination tried.
list_errors() {
  local penalty weight
  for penalty in ${penalties//,/ }; do
    for ((weight = min_lmwt; weight <= max_lmwt; weight++)); do
      awk -v weight="$weight" -v penalty="$penalty" '/^%WER/ { print $4, weight, penalty }' "$1/wer_${weight}_$penalty"
    done
  done
}

# score_words DECODE_DIR DATA_DIR GRAPH_DIR FIRST:LAST PENALTY: the best words and their word error rate for a range of
# weights, in DECODE_DIR/scoring_kaldi/penalty_PENALTY/LMWT.txt and DECODE_DIR/wer_LMWT_PENALTY.
score_words() {
  local decode_dir=$1 data_dir=$2 words=$3/words.txt weights=$4 penalty=$5 archives
  local out=$decode_dir/scoring_kaldi/penalty_$penalty wer=$decode_dir/wer_LMWT_$penalty
  check_files "$data_dir/text" "$words"
  find_archives "$decode_dir" lat "decode it (again) by scripts/decode_kaldi.sh"
  mkdir -p "$out"
  # The lattices come through a pipe of the shell, not of an rspecifier: Kaldi does not notice when such a pipe fails.
  run_jobs "LMWT=$weights" "$out/log/score.LMWT.log" set -o pipefail '&&' \
    gunzip -c "${archives[@]}" \| \
    lattice-scale --inv-acoustic-scale=LMWT ark:- ark:- \| \
    lattice-add-penalty "--word-ins-penalty=$penalty" ark:- ark:- \| \
    lattice-best-path ark:- ark,t:- \| \
    awk -v first=2 -f "$root/scripts/kaldi/int2sym.awk" "$words" - '>' "$out/LMWT.txt.$$" '&&' \
    mv "$out/LMWT.txt.$$" "$out/LMWT.txt" '&&' \
    compute-wer --text --mode=present "ark:$data_dir/text" "ark:$out/LMWT.txt" '>' "$wer.$$" '&&' \
    mv "$wer.$$" "$wer"
}
