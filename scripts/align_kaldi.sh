#!/usr/bin/env bash
# Align with Kaldi: the scaled likelihoods of a trained network against the words of each utterance, by
# compile-train-graphs and align-compiled-mapped, in parallel jobs. The result serves to train on: `train.ali_dir=...`.
#
#   scripts/align_kaldi.sh [options] <exp-dir> <data-dir> <lang-dir> <ali-dir>
#   scripts/align_kaldi.sh --nj 8 exp/relu data/train data/lang exp/relu_ali
#
# ali-dir gets ali.JOB.gz, final.mdl, tree, log/ and at last num_jobs, the mark of a complete alignment.
#
# Options, as `--name value` or `--name=value`:
#   --nj N                  jobs (4); the data are split by utterance, CMVN statistics stay those of whole speakers
#   --cmd LAUNCHER          run.pl, "slurm.pl --mem 4G", queue.pl, ... (default: here, a job for each core at a time)
#   --model-dir DIR         final.mdl and tree of the targets the network was trained on (train.ali_dir of exp-dir)
#   --acoustic-scale, --transition-scale, --self-loop-scale  0.1, 1.0, 0.1
#   --beam, --retry-beam    search beam (10) and that of the second attempt (40)
#   --prior-scale X         factor on the log priors (1.0)
#   --device NAME           of the network: cpu, cuda (auto)
#   --fmllr DIR|RSPECIFIER  fMLLR transforms, for a network that applies them: a directory with trans.N, as exp/tri4
#   --loglikes RSPECIFIER   align sorted loglikes made beforehand, as ark:loglikes.JOB.ark
#   --max-skip-fraction X   fail when more utterances than this are lost (0.05)
set -euo pipefail
# shellcheck source=scripts/kaldi/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi/common.sh"

model_dir=
acoustic_scale=0.1
transition_scale=1.0
self_loop_scale=0.1
beam=10
retry_beam=40
option_names=(nj cmd model_dir acoustic_scale transition_scale self_loop_scale beam retry_beam prior_scale device fmllr
  loglikes max_skip_fraction)
parse_options "$@"
check_arguments 4
exp_dir=${arguments[0]} data_dir=${arguments[1]} lang_dir=${arguments[2]} ali_dir=${arguments[3]}
check_integers nj
check_numbers acoustic_scale transition_scale self_loop_scale beam retry_beam prior_scale max_skip_fraction

# split_text: the transcripts of each job's utterances; of all when the parts of the loglikes are someone else's.
split_text() {
  local job
  check_sorted "$data_dir/text"
  for ((job = 1; job <= nj; job++)); do
    if [ -z "$loglikes" ]; then
      awk 'NR == FNR { is_here[$1]; next } $1 in is_here' "$work/feats.scp.$job" "$data_dir/text" > "$work/text.$job"
    else
      cp "$data_dir/text" "$work/text.$job"
    fi
  done
}

find_programs compile-train-graphs align-compiled-mapped
model=${model_dir:+$model_dir/final.mdl}
find_model "$exp_dir"
model_dir=$(dirname "$model")
disambig=$lang_dir/phones/disambig.int
check_files "$model" "$model_dir/tree" "$lang_dir/L.fst" "$lang_dir/words.txt" "$lang_dir/oov.int" "$disambig" \
  "$data_dir/text" "$data_dir/utt2spk"
start_output "$ali_dir"
prepare_loglikes "$exp_dir" "$data_dir"
split_text

# The graphs lie in a file, not in a pipe inside an rspecifier: Kaldi does not notice when such a pipe fails.
run_jobs JOB=1:"$nj" "$ali_dir/log/align.JOB.log" set -o pipefail '&&' \
  awk -v "oov=$(cat "$lang_dir/oov.int")" -f "$root/scripts/kaldi/sym2int.awk" \
  "$lang_dir/words.txt" "$work/text.JOB" \| \
  compile-train-graphs "--read-disambig-syms=$disambig" "$model_dir/tree" "$model" "$lang_dir/L.fst" \
  ark:- "ark:$work/graphs.JOB" '&&' \
  "${loglikes_command[@]}" \| \
  align-compiled-mapped "--acoustic-scale=$acoustic_scale" "--transition-scale=$transition_scale" \
  "--self-loop-scale=$self_loop_scale" "--beam=$beam" "--retry-beam=$retry_beam" \
  "$model" "ark:$work/graphs.JOB" ark,s,cs:- ark:- \| \
  gzip -c '>' "$work/ali.JOB.gz"

check_done "$ali_dir/log/align.JOB.log" align-compiled-mapped "$data_dir"
[ "$model_dir" -ef "$ali_dir" ] || cp "$model" "$model_dir/tree" "$ali_dir"
finish_output ali
