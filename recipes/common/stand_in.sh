#!/usr/bin/env bash
# Make a stand-in for the Kaldi experiment that a recipe starts from: the same directories, files and formats around a
# corpus that anybody may have. By default that is the synthetic one of recipes/mini, at a fraction of its size.
#
#   recipes/common/stand_in.sh [options] swbd|bn OUT
#   recipes/common/stand_in.sh --digits-dir ~/kaldi/egs/digits --fold 2 swbd exp/swbd_of_digits
#
# options:
#   --train-utterances N  sentences of each of the 40 voices to train on (default: 20)
#   --dev-utterances N    of each of the 6 voices of dev (default: 12)
#   --test-utterances N   of each of the 8 voices of test (default: 20)
#   --digits-dir DIR      take the connected digits of recipes/digits instead: their data, alignments, graph
#   --fold K              which division of them into train, dev and test (default: 1)
#   --num-jobs N          processes (default: the cores)
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/path.sh"
. "$here/options.sh"

train_utterances=20 dev_utterances=12 test_utterances=20 digits_dir="" fold=1 num_jobs=$(nproc)
option_names=({train,dev,test}_utterances digits_dir fold num_jobs)
arguments=()
take_argument() { arguments+=("$1"); }
parse_options "$@"
check_numbers {train,dev,test}_utterances fold num_jobs
[ ${#arguments[@]} -eq 2 ] || die "needs two arguments, the recipe and the folder to make; --help shows an example"
recipe=${arguments[0]} out=${arguments[1]}

if [ -n "$digits_dir" ]; then
  data=$digits_dir/data/fold$fold tri1=$digits_dir/exp/tri1
  [ -d "$data" ] || die "$data is no folder"
  python3 "$here/local/make_stand_in.py" --description "connected digits of six speakers, fold $fold" \
    --root "$digits_dir" --train "$data/train" --dev "$data/dev" --test "$data/test" \
    --lang "$digits_dir/data/lang_test" --model "$tri1" --ali "$digits_dir/exp/tri1_ali" --graph "$tri1/graph" \
    "$recipe" "$out"
  exit
fi

corpus=$out.corpus
mini=$here/../mini
rm -rf "$out"
"$mini/run.sh" --exp "$corpus" --stop-stage 1 --num-jobs "$num_jobs" --train-utterances "$train_utterances" \
  --dev-utterances "$dev_utterances" --test-utterances "$test_utterances" | sed 's/^/  /'
acoustic mkgraph "$corpus/lang" "$corpus/mono" "$corpus/graph"
python3 "$here/local/make_stand_in.py" --description "minutes of synthetic speech" \
  --train "$corpus/corpus/train" --dev "$corpus/corpus/dev" --test "$corpus/corpus/test" \
  --lang "$corpus/lang" --model "$corpus/mono" --ali "$corpus/mono_ali" --graph "$corpus/graph" "$recipe" "$out"
rm -rf "$corpus"
