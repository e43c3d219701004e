#!/usr/bin/env bash
# Word error rate of Kaldi lattices by NIST's sclite (hubscr.pl), against the stm and under the glm rules of a test set:
# total and a row for each part of it. Weight and penalty are chosen on development data, as in scripts/score_kaldi.sh.
#
#   scripts/score_sclite.sh [options] <data-dir> <graph-dir> <decode-dir>
#   scripts/score_sclite.sh --tune-on exp/relu/decode_dev data/eval2000 exp/tri4/graph exp/relu/decode_eval2000
#
# data-dir holds stm, glm, and segments and reco2file_and_channel where utterances are parts of recordings (without
# them an utterance is channel A of a file of its name). graph-dir (or a lang directory) holds words.txt and
# phones/word_boundary.int or phones/align_lexicon.int. Prints the table, the development data's %WER line, if any, and
# last the total's; sclite's reports are <decode-dir>/score_LMWT_WIP/*.ctm*.filt.*.
#
# Options, as `--name value` or `--name=value`:
#   --tune-on DIR           decode-dir of the development data
#   --tune-data DIR         its data-dir (by default what scripts/decode_kaldi.sh noted in DIR/data_dir)
#   --min-lmwt, --max-lmwt  range of language model weights, the inverse of the acoustic scale (4, 20)
#   --penalties LIST        word insertion penalties (0.0,0.5,1.0)
#   --lmwt N, --wip X       without --tune-on: this weight and penalty, chosen elsewhere
#   --sets LIST             parts by the beginning of the file's name ("swbd=sw_ callhome=en_ fisher=fsh_")
#   --ctm-filter COMMAND    reads and writes ctm lines before scoring: "awk -f scripts/kaldi/hub5_ctm.awk" drops
#                           noises, hesitations and fragments as Kaldi's Switchboard recipe does
#   --model FILE            the model the graph was made with (<graph-dir>/../final.mdl)
#   --hub NAME              whose rules filter words: hub5 (telephone speech; the default) or hub4 (broadcast news)
#   --frame-shift X         seconds between frames (0.01)
#   --cmd LAUNCHER          run.pl, "slurm.pl --mem 4G", queue.pl, ... (default: here, a job for each core at a time)
set -euo pipefail
# shellcheck source=scripts/kaldi/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi/common.sh"
# shellcheck source=scripts/kaldi/scoring.sh
. "$root/scripts/kaldi/scoring.sh"

sets="swbd=sw_ callhome=en_ fisher=fsh_"
ctm_filter="cat"
hub=hub5
frame_shift=0.01
option_names=(tune_on tune_data min_lmwt max_lmwt penalties lmwt wip sets ctm_filter hub model frame_shift cmd)
parse_options "$@"
check_arguments 3
data_dir=${arguments[0]} graph_dir=${arguments[1]} decode_dir=${arguments[2]}
check_numbers frame_shift
check_scoring_options

# find_hubscr: set `hubscr` to the program, which Debian keeps off PATH and Kaldi among its tools.
find_hubscr() {
  local folder
  hubscr=$(command -v hubscr.pl) && return
  for folder in "${KALDI_ROOT:-}/tools/sctk/bin" /usr/lib/sctk/bin; do
    hubscr=$folder/hubscr.pl
    [ ! -x "$hubscr" ] || return 0
  done
  die "not found: hubscr.pl of NIST's SCTK. Install Debian's package sctk, or run 'make sctk' in Kaldi's tools folder"
}

# make_ctm FILE: the words of the best paths with their times in the recordings.
make_ctm() {
  local archives align_words boundary=$graph_dir/phones/word_boundary.int lexicon=$graph_dir/phones/align_lexicon.int
  if [ -f "$boundary" ]; then
    align_words=(lattice-align-words "$boundary" "$model" ark:- ark:-)
  else
    check_files "$lexicon"
    # This program may split the path by pronunciation: the best is taken again.
    align_words=(lattice-align-words-lexicon "$lexicon" "$model" ark:- ark:- \| lattice-1best ark:- ark:-)
  fi
  find_programs "${align_words[0]}"
  find_archives "$decode_dir" lat "decode it (again) by scripts/decode_kaldi.sh"
  write_recordings
  run_jobs "LMWT=$lmwt:$lmwt" "$log_dir/ctm.LMWT.log" set -o pipefail '&&' \
    gunzip -c "${archives[@]}" \| \
    lattice-scale --inv-acoustic-scale=LMWT ark:- ark:- \| \
    lattice-add-penalty "--word-ins-penalty=$wip" ark:- ark:- \| \
    lattice-1best ark:- ark:- \| \
    "${align_words[@]}" \| \
    nbest-to-ctm "--frame-shift=$frame_shift" ark:- - \| \
    awk -v first=5 -v last=5 -f "$root/scripts/kaldi/int2sym.awk" "$graph_dir/words.txt" - \| \
    awk -f "$root/scripts/kaldi/ctm.awk" "$work/recordings" "$work/segments" - '>' "$1"
}

# write_recordings: which part of which file each utterance is, from the data directory or by the utterance's name.
write_recordings() {
  if [ -f "$data_dir/segments" ]; then
    cp "$data_dir/segments" "$work/segments"
  else
    awk '{ print $1, $1, 0 }' "$data_dir/utt2spk" > "$work/segments"
  fi
  if [ -f "$data_dir/reco2file_and_channel" ]; then
    cp "$data_dir/reco2file_and_channel" "$work/recordings"
  else
    awk '{ print $2, $2, "A" }' "$work/segments" > "$work/recordings"
  fi
}

# score_set NAME STM CTM: score a part, add its row to the table and set `wer_line`.
score_set() {
  local log=$log_dir/hubscr.$1.log counts
  "$hubscr" -p "$(dirname "$hubscr")" -V -l english -h "$hub" -g "$data_dir/glm" -r "$2" "$3" > "$log" 2>&1 ||
    data_error "sclite failed on $1: $(grep -E -m 1 'ERR|Error' "$log" || tail -n 1 "$log") ($log)"
  # The filters of the glm say so and carry on when they fail.
  ! grep -F '*ERR' "$log" >&2 || data_error "the glm could not be applied to $1 ($log)"
  counts=$(awk '$2 == "Sum" { print $5, $8, $9, $10, $11 }' "$3.filt.raw")
  awk -v name="$1" '{ printf "%-10s %7d %6d %6d %6d %7.2f\n", name, $1, $2, $3, $4, 100 * $5 / $1 }' \
    <<< "$counts" >> "$work/table"
  wer_line=$(awk '{ printf "%%WER %.2f [ %d / %d, %d ins, %d del, %d sub ]", 100 * $5 / $1, $5, $1, $4, $3, $2 }' \
    <<< "$counts")
}

find_programs lattice-scale lattice-add-penalty lattice-best-path compute-wer lattice-1best nbest-to-ctm
find_hubscr
check_files "$data_dir/stm" "$data_dir/glm" "$data_dir/utt2spk" "$graph_dir/words.txt"
find_model "" "$graph_dir/.."
choose_weights "$graph_dir"

name=$(basename "$data_dir")
log_dir=$decode_dir/scoring_sclite/log
mkdir -p "$log_dir"
make_work "$decode_dir"
make_ctm "$work/$name.ctm.all"
bash -c "$ctm_filter" < "$work/$name.ctm.all" > "$work/$name.ctm" || die "--ctm-filter failed: $ctm_filter"
cp "$data_dir/stm" "$work/stm"
printf '%-10s %7s %6s %6s %6s %7s\n' set words sub del ins %WER > "$work/table"
for part in $sets; do
  set_name=${part%%=*} prefix=${part#*=}
  # Lines of comment define the labels that lines of the stm bear.
  awk -v prefix="$prefix" '/^;;/ || index($1, prefix) == 1' "$work/stm" > "$work/stm.$set_name"
  if grep -q '^[^;]' "$work/stm.$set_name"; then
    awk -v prefix="$prefix" 'index($1, prefix) == 1' "$work/$name.ctm" > "$work/$name.ctm.$set_name"
    score_set "$set_name" "$work/stm.$set_name" "$work/$name.ctm.$set_name"
  fi
done
score_set total "$work/stm" "$work/$name.ctm"

cat "$work/table"
rm -rf "$decode_dir/score_${lmwt}_$wip"
mv "$work" "$decode_dir/score_${lmwt}_$wip"
printf '%s\n' ${dev_wer_line:+"$dev_wer_line"} "$wer_line"
