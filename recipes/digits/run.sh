#!/usr/bin/env bash
# A network for a Kaldi experiment on real speech: DIR holds data/foldK/{train,dev,test}, exp/tri1 (tree, final.mdl,
# graph/HCLG.fst) and exp/tri1_ali; nothing is written there. The last line of output is the test set's %WER, the one
# before it dev's.
#
#   recipes/digits/run.sh --kaldi-dir DIR --fold K [--exp DIR] [--stage N] [--stop-stage M] [options] [hydra overrides]
#   recipes/digits/run.sh --kaldi-dir ~/kaldi/egs/digits --fold 3 --exp exp/fold3 seed=2 model.hidden_layers=4
#
# options:
#   --kaldi-dir DIR       the Kaldi experiment; paths in its wav.scp are relative to it
#   --fold K              which division into train, dev and test (default: 1)
#   --exp DIR             where everything goes (default: exp/digits_foldK)
#   --stage N             first stage to run (default: 0); every stage can be run again
#   --stop-stage M        last stage to run (default: all)
#   --speeds 0.9,1.1      train on copies at these speeds too; none: do not (default: 0.9,1.1)
#   --decoder WHICH       kaldi, acoustic, or auto: Kaldi's programs if they are on PATH (default: auto)
#   --realign N           rounds in which the network aligns its data anew and is trained further on that, for two
#                         epochs at three tenths of the rate, whatever schedule.max_epochs and optim.learning_rate say
#                         of the first training; after a flat start another one is trained (default: 0)
#   --from-scratch        take the experiment's wav, text, lexicon and grammar alone: first alignments and tree are made
#                         here; its alignments, if there, are only compared with
#   --flat-start-on SETS  with --from-scratch: what is aligned. all: every string of the experiment, those of the test
#                         speaker among them, as the experiment's own alignments were made, so that the two can be
#                         compared; train,dev: nothing of the test speaker is heard (default: all)
#   --flat-start-gauss N  with --from-scratch: how many Gaussians of the tree's states align after those of monophones;
#                         0: none (default: 2000 for all, as many as the experiment's tri1 has; 0 for train,dev)
#   --sequence WHICH      then train the network further by mmi or smbr (over lattices), lfmmi or lfsmbr (lattice-free)
#                         and keep what is better on dev; overrides for it begin with `sequence.` (default: none)
#   --analyze             write a report too, of what the network learnt and where it errs (exp/dnn/analysis)
#   --num-jobs N          processes (default: the cores)
#
# stages: 0 data directories, 1 (from scratch) lang and alignments, 2 filter banks, 3 cmvn, 4 doctor, 5 graph,
# 6 frames cache, 7 training, 8 scaled likelihoods, 9 tuning on dev, 10 decoding, 11 scoring;
# with --realign N: 12 alignment by the network, 13 stages 6 to 11 upon it, 14 and 15 the second round, and so on; last
# the choice, by dev's word error rate (exp/realignment, exp/best);
# with --sequence: three more, for training, scoring and the choice (exp/sequence_WHICH, exp/sequence, exp/best)
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/path.sh"
. "$here/../common/options.sh"
. "$here/../common/stages.sh"
. "$here/../common/realign.sh"
. "$here/../common/flat_start.sh"
. "$here/../common/sequence.sh"

kaldi_dir="" fold=1 exp="" stage=0 stop_stage="" speeds=0.9,1.1 decoder=auto realign="" from_scratch="" analyze="" num_jobs=$(nproc)
sequence=none flat_start_gauss="" flat_start_on=""
option_names=(kaldi_dir fold exp stage stop_stage speeds decoder realign flat_start_gauss flat_start_on sequence num_jobs)
flag_names=(from_scratch analyze)
parse_options "$@"
[ -n "$from_scratch" ] || [ -z "$flat_start_on$flat_start_gauss" ] || die "--flat-start-* goes with --from-scratch"
case ${flat_start_on:=all} in
  all) flat_start_sets=(all) flat_start_gauss=${flat_start_gauss:-2000} ;;
  train,dev) flat_start_sets=(train dev) flat_start_gauss=${flat_start_gauss:-0} ;;
  *) die "--flat-start-on=$flat_start_on: all or train,dev" ;;
esac
check_numbers fold stage num_jobs flat_start_gauss
[ -n "$kaldi_dir" ] || die "--kaldi-dir DIR is missing; --help shows an example"
[ -d "$kaldi_dir/data/fold$fold" ] || die "$kaldi_dir/data/fold$fold is no folder"
kaldi_dir=$(cd "$kaldi_dir" && pwd)
if [ -n "$from_scratch" ]; then
  need_files "$kaldi_dir"/data/{dict/lexicon.txt,lm.arpa}
  [ "$flat_start_on" != all ] || [ -d "$kaldi_dir/data/all" ] ||
    die "$kaldi_dir/data/all, all strings of the experiment, is no folder; without it: --flat-start-on train,dev"
else
  need_files "$kaldi_dir"/exp/{tri1/final.mdl,tri1/graph/HCLG.fst,tri1_ali/final.mdl}
fi

exp=${exp:-exp/digits_fold$fold}
mkdir -p "$exp"
exp=$(cd "$exp" && pwd)
decoder=$(choose_decoder "$decoder")
[ "$speeds" != none ] || speeds=""
model_dir=$kaldi_dir/exp/tri1 ali_dir=$kaldi_dir/exp/tri1_ali graph_dir=$kaldi_dir/exp/tri1/graph
align_lang=$kaldi_dir/data/lang_test fbank_conf=$here/conf/fbank.conf experiment=digits
tune_options=()
further_options=(schedule.max_epochs=2) further_rate=0.3
[ -z "$from_scratch" ] || [ ! -e "$ali_dir/final.mdl" ] || reference_ali=$ali_dir
flat_start_leaves=130
choose_flat_start "$from_scratch"
check_numbers realign
check_sequence
number_stages
check_numbers stop_stage

if run_stage 0 "data directories of fold $fold"; then
  names=(fold"$fold"/{train,dev,test})
  [ -z "$from_scratch" ] || [ "$flat_start_on" != all ] || names+=(all)
  for name in "${names[@]}"; do
    to=$exp/data/${name##*/}
    mkdir -p "$to"
    cp "$kaldi_dir/data/$name"/{text,utt2spk,spk2utt} "$to"
    absolute_paths "$kaldi_dir" < "$kaldi_dir/data/$name/wav.scp" > "$to/wav.scp"
  done
fi

if [ -n "$from_scratch" ] && run_stage 1 "lang directory, first alignments ($flat_start_on), decision tree"; then
  acoustic prepare-lang "$kaldi_dir/data/dict" "<SIL>" "$lang_dir"
  acoustic arpa2fst "$kaldi_dir/data/lm.arpa" "$lang_dir" "$lang_dir/G.fst"
  make_flat_alignments
fi

run_stages_with_realignment
