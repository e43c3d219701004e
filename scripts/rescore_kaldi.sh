#!/usr/bin/env bash
# Rescore Kaldi lattices with another language model, in place of the one in the decoding graph, as Kaldi's
# steps/lmrescore_const_arpa.sh and steps/lmrescore.sh do.
#
#   scripts/rescore_kaldi.sh [options] <old-lang-dir> <new-lang-dir> <decode-dir> <new-decode-dir>
#   scripts/rescore_kaldi.sh data/lang_sw1_tg data/lang_sw1_fsh_fg exp/relu/decode_tg exp/relu/decode_fsh_fg
#
# old-lang-dir holds the G.fst of the decoding graph; new-lang-dir G.carpa (utils/build_const_arpa_lm.sh) or, failing
# that, G.fst. new-decode-dir gets lat.JOB.gz, log/, data_dir and at last num_jobs, the mark of a complete decode.
#
# Options, as `--name value` or `--name=value`:
#   --cmd LAUNCHER          run.pl, "slurm.pl --mem 4G", queue.pl, ... (default: here, a job for each core at a time)
#   --max-skip-fraction X   fail when more utterances than this have no lattice (0.05)
set -euo pipefail
# shellcheck source=scripts/kaldi/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi/common.sh"

option_names=(cmd max_skip_fraction)
parse_options "$@"
check_arguments 4
check_numbers max_skip_fraction
old_lang=${arguments[0]} new_lang=${arguments[1]} decode_dir=${arguments[2]} new_decode_dir=${arguments[3]}
[ ! "$decode_dir" -ef "$new_decode_dir" ] || die "$new_decode_dir is the decode-dir itself: name another"

# project_grammar LANG FILE: the output side of a grammar, as an acceptor. In a file, not in a pipe inside an
# rxfilename: Kaldi does not notice when such a pipe fails.
project_grammar() {
  check_files "$1/G.fst"
  # OpenFst renamed the option.
  fstproject --project_type=output "$1/G.fst" "$2" 2> /dev/null ||
    fstproject --project_output=true "$1/G.fst" "$2" 2> "$output/log/fstproject.log" ||
    data_error "fstproject failed on $1/G.fst: $(tail -n 1 "$output/log/fstproject.log")"
}

find_programs lattice-lmrescore fstproject
find_archives "$decode_dir" lat "decode it (again) by scripts/decode_kaldi.sh"
cmp -s "$old_lang/words.txt" "$new_lang/words.txt" ||
  data_error "$old_lang/words.txt and $new_lang/words.txt are not the same: both grammars must number words alike"
check_files "$decode_dir/data_dir"
nj=$(cat "$decode_dir/num_jobs")
start_output "$new_decode_dir"
rm -rf "$new_decode_dir"/scoring_* "$new_decode_dir"/wer_* "$new_decode_dir"/score_*
project_grammar "$old_lang" "$work/old.fst"
if [ -f "$new_lang/G.carpa" ]; then
  find_programs lattice-lmrescore-const-arpa
  add_new=(lattice-lmrescore-const-arpa --lm-scale=1.0 ark:- "$new_lang/G.carpa" ark:-)
else
  project_grammar "$new_lang" "$work/new.fst"
  add_new=(lattice-lmrescore --lm-scale=1.0 ark:- "$work/new.fst" ark:-)
fi

run_jobs JOB=1:"$nj" "$new_decode_dir/log/rescore.JOB.log" set -o pipefail '&&' \
  gunzip -c "$decode_dir/lat.JOB.gz" \| \
  lattice-lmrescore --lm-scale=-1.0 ark:- "$work/old.fst" ark:- '2>' "$new_decode_dir/log/remove_old.JOB.log" \| \
  "${add_new[@]}" \| \
  gzip -c '>' "$work/lat.JOB.gz"

check_done "$new_decode_dir/log/rescore.JOB.log" "${add_new[0]}" "$(cat "$decode_dir/data_dir")"
cp "$decode_dir/data_dir" "$new_decode_dir"
finish_output lat
