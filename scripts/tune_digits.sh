#!/usr/bin/env bash
# Bayesian optimisation of recipes/digits: hyperparameters are searched on the dev speakers of all folds; then the best
# configuration and the one set by hand are trained on every fold and reported on its test speakers.
#
#   scripts/tune_digits.sh --kaldi-dir DIR [--exp DIR] [--trials N] [--num-jobs N] [--stage N] [hydra overrides]
#
# stages: 0 folds prepared (recipes/digits/run.sh up to its frames cache), 1 search, 2 training, decoding and scoring of
# both configurations on every fold, 3 the comparison. Overrides are for the search and the configuration set by hand.
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/recipes/digits/path.sh"
. "$root/recipes/common/options.sh"

kaldi_dir="" exp=exp/tune_digits trials=40 num_jobs=$(nproc) stage=0 stop_stage=3 folds="3 6 1 2 4 5" # first those whose dev speakers are hard: bad trials end there
option_names=(kaldi_dir exp trials num_jobs stage stop_stage folds)
parse_options "$@"
check_numbers trials num_jobs stage stop_stage
[ -n "$kaldi_dir" ] || die "--kaldi-dir DIR is missing; --help shows an example"
kaldi_dir=$(cd "$kaldi_dir" && pwd)
mkdir -p "$exp"
exp=$(cd "$exp" && pwd)
ali=$kaldi_dir/exp/tri1_ali model=$kaldi_dir/exp/tri1/final.mdl graph=$kaldi_dir/exp/tri1/graph

# wanted N: whether stage N is to run.
wanted() {
  [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]
}

# data_of FOLD: set data_options to the overrides that name the data of a fold.
data_of() {
  data_options=(
    "train.data_dir=['$exp/folds/$1/data/train','$exp/folds/$1/data/train_sp']"
    "train.ali_dir=['$ali','$exp/folds/$1/ali_sp']"
    "dev.data_dir='$exp/folds/$1/data/dev'" "dev.ali_dir='$ali'"
  )
}

# train_and_score DIR FOLD OVERRIDE...: train, choose scales on dev, decode and score test.
train_and_score() {
  local dir=$1 data=$exp/folds/$2/data
  data_of "$2"
  acoustic train --config-dir="$exp/search" "exp_dir='$dir'" "${data_options[@]}" \
    "data.cache_dir='$exp/folds/$2/dnn/cache'" "${@:3}"
  acoustic loglikes "$dir" "$data/dev" "ark:$dir/dev.ark"
  acoustic decode-tune --num-jobs="$num_jobs" "$model" "$graph/HCLG.fst" "ark:$dir/dev.ark" "$data/dev/text" \
    "$dir/tuned.json"
  acoustic loglikes "$dir" "$data/test" ark:- | acoustic decode --num-jobs="$num_jobs" --tuned="$dir/tuned.json" \
    --word-symbol-table="$graph/words.txt" "$model" "$graph/HCLG.fst" ark:- "ark,t:$dir/text"
  acoustic score "$data/test/text" "$dir/text" > "$dir/wer"
}

if wanted 0; then
  for k in $folds; do
    "$root/recipes/digits/run.sh" --kaldi-dir "$kaldi_dir" --fold "$k" --exp "$exp/folds/$k" --stop-stage 6 \
      --num-jobs "$num_jobs"
  done
fi

if wanted 1; then
  data_of "{fold}"
  acoustic tune --space=digits --objective=dev_wer --graph-dir="$kaldi_dir/exp/tri1/graph" --trials="$trials" \
    --num-jobs="$num_jobs" --folds="${folds// /,}" "$exp/search" \
    "${data_options[@]}" "${overrides[@]}"
fi

if wanted 2; then
  need_files "$exp/search/experiment/best.yaml"
  for k in $folds; do
    train_and_score "$exp/hand_set/$k" "$k" experiment=digits "${overrides[@]}"
    train_and_score "$exp/best/$k" "$k" experiment=best
  done
fi

if wanted 3; then
  # shellcheck disable=SC2086  # several folds
  python3 "$root/scripts/compare_folds.py" "$exp/folds/{fold}/data/test/text" "$exp/hand_set/{fold}/text" \
    "$exp/best/{fold}/text" $folds
fi
