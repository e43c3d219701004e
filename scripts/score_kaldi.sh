#!/usr/bin/env bash
# Word error rate of Kaldi lattices by Kaldi's programs. Language model weight and insertion penalty are chosen on
# development data and applied to the data reported, never picked on the latter.
#
#   scripts/score_kaldi.sh [options] <data-dir> <graph-dir> <decode-dir>
#   scripts/score_kaldi.sh --tune-on exp/relu/decode_dev data/test exp/tri3/graph exp/relu/decode_test
#
# graph-dir (or a lang directory) holds words.txt. Prints the %WER line of the development data, if any, and last that
# of the data; the words are in <decode-dir>/scoring_kaldi/penalty_WIP/LMWT.txt.
#
# Options, as `--name value` or `--name=value`:
#   --tune-on DIR           decode-dir of the development data
#   --tune-data DIR         its data-dir (by default what scripts/decode_kaldi.sh noted in DIR/data_dir)
#   --min-lmwt, --max-lmwt  range of language model weights, the inverse of the acoustic scale (4, 20)
#   --penalties LIST        word insertion penalties (0.0,0.5,1.0)
#   --lmwt N, --wip X       without --tune-on: this weight and penalty, chosen elsewhere
#   --cmd LAUNCHER          run.pl, "slurm.pl --mem 4G", queue.pl, ... (default: here, a job for each core at a time)
#   --max-skip-fraction X   fail when more utterances than this have no lattice (0.05)
set -euo pipefail
# shellcheck source=scripts/kaldi/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi/common.sh"
# shellcheck source=scripts/kaldi/scoring.sh
. "$root/scripts/kaldi/scoring.sh"

option_names=(tune_on tune_data min_lmwt max_lmwt penalties lmwt wip cmd max_skip_fraction)
parse_options "$@"
check_arguments 3
data_dir=${arguments[0]} graph_dir=${arguments[1]} decode_dir=${arguments[2]}
check_numbers max_skip_fraction
check_scoring_options

find_programs lattice-scale lattice-add-penalty lattice-best-path compute-wer
choose_weights "$graph_dir"
score_words "$decode_dir" "$data_dir" "$graph_dir" "$lmwt:$lmwt" "$wip"

wer=$decode_dir/wer_${lmwt}_$wip
awk -v limit="$max_skip_fraction" '/^Scored/ { exit $4 > limit * ($2 + $4) }' "$wer" ||
  data_error "$(tail -n 1 "$wer") More than --max-skip-fraction $max_skip_fraction of $data_dir/text has no lattice"
printf '%s\n' ${dev_wer_line:+"$dev_wer_line"} "$(grep '^%WER' "$wer")"
