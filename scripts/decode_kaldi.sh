#!/usr/bin/env bash
# Decode with Kaldi: the scaled likelihoods of a trained network stream into latgen-faster-mapped, in parallel jobs.
#
#   scripts/decode_kaldi.sh [options] <exp-dir> <data-dir> <graph-dir> <decode-dir>
#   scripts/decode_kaldi.sh --nj 8 exp/relu data/test exp/tri3/graph exp/relu/decode_test
#
# exp-dir is what `acoustic train` made, graph-dir holds HCLG.fst and words.txt. decode-dir gets lat.JOB.gz, log/,
# data_dir (which data these are) and at last num_jobs, the mark of a complete decode.
#
# Options, as `--name value` or `--name=value`:
#   --nj N                  jobs (4); the data are split by utterance, CMVN statistics stay those of whole speakers
#   --cmd LAUNCHER          run.pl, "slurm.pl --mem 4G", queue.pl, ... (default: here, a job for each core at a time)
#   --acwt X                acoustic scale while searching (0.1); the weight of the result is chosen in scoring
#   --beam, --lattice-beam  search beam (13) and lattice beam (8)
#   --max-active, --min-active  most and fewest states alive in a frame (7000, 200)
#   --prior-scale X         factor on the log priors (1.0)
#   --model FILE            the model the graph was made with (<graph-dir>/../final.mdl, else train.ali_dir's final.mdl)
#   --device NAME           of the network: cpu, cuda (auto)
#   --fmllr DIR|RSPECIFIER  fMLLR transforms, for a network that applies them: a directory with trans.N, as exp/tri4
#   --loglikes RSPECIFIER   decode loglikes made beforehand, as ark:loglikes.JOB.ark; exp-dir then only finds the model
#   --max-skip-fraction X   fail when more utterances than this are lost (0.05)
set -euo pipefail
# shellcheck source=scripts/kaldi/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi/common.sh"

acwt=0.1
beam=13
lattice_beam=8
max_active=7000
min_active=200
option_names=(nj cmd acwt beam lattice_beam max_active min_active prior_scale model device fmllr loglikes
  max_skip_fraction)
parse_options "$@"
check_arguments 4
exp_dir=${arguments[0]} data_dir=${arguments[1]} graph_dir=${arguments[2]} decode_dir=${arguments[3]}
check_integers nj max_active min_active
check_numbers acwt beam lattice_beam prior_scale max_skip_fraction

find_programs latgen-faster-mapped
find_model "$exp_dir" "$graph_dir/.."
check_files "$model" "$graph_dir/HCLG.fst" "$graph_dir/words.txt" "$data_dir/utt2spk"
start_output "$decode_dir"
# Scores of earlier lattices are not these lattices' scores.
rm -rf "$decode_dir"/scoring_* "$decode_dir"/wer_* "$decode_dir"/score_*
prepare_loglikes "$exp_dir" "$data_dir"

run_jobs JOB=1:"$nj" "$decode_dir/log/decode.JOB.log" set -o pipefail '&&' \
  "${loglikes_command[@]}" \| \
  latgen-faster-mapped "--acoustic-scale=$acwt" "--beam=$beam" "--lattice-beam=$lattice_beam" \
  "--max-active=$max_active" "--min-active=$min_active" --allow-partial=true \
  "--word-symbol-table=$graph_dir/words.txt" "$model" "$graph_dir/HCLG.fst" ark:- ark:- \| \
  gzip -c '>' "$work/lat.JOB.gz"

check_done "$decode_dir/log/decode.JOB.log" latgen-faster-mapped "$data_dir"
echo "$data_dir" > "$decode_dir/data_dir"
finish_output lat
