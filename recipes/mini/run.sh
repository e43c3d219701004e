#!/usr/bin/env bash
# From nothing to a word error rate: a telephone-band corpus is made with a speech synthesiser, then a network is trained,
# decoded and scored on it. The last line of output is the test set's %WER, the one before it dev's.
#
#   recipes/mini/run.sh [--exp DIR] [--stage N] [--stop-stage M] [options] [hydra overrides]
#   recipes/mini/run.sh --exp exp/mini --stage 6 model.hidden_layers=4 seed=2
#
# options:
#   --exp DIR             where everything goes (default: exp/mini)
#   --stage N             first stage to run (default: 0); every stage can be run again
#   --stop-stage M        last stage to run (default: all)
#   --corpus-seed N       of sentences, voices and noise (default: 1)
#   --train-utterances N  sentences of each of the 40 voices to train on (default: 30)
#   --dev-utterances N    of each of the 6 voices of dev (default: 25)
#   --test-utterances N   of each of the 8 voices of test (default: 40)
#   --speeds 0.9,1.1      train on copies at these speeds too (default: none)
#   --decoder WHICH       kaldi, acoustic, or auto: Kaldi's programs if they are on PATH (default: acoustic)
#   --realign N           rounds in which the network aligns its data anew and another is trained on that (default: 0)
#   --flat-start          make first alignments and a tree of wav, text and lexicon alone; the synthesiser's phone times are
#                         only compared with
#   --flat-start-gauss N  with --flat-start: how many Gaussians of the tree's states align after those of monophones;
#                         0: none (default: 4000)
#   --sequence WHICH      then train the network further by mmi or smbr (over lattices), lfmmi or lfsmbr (lattice-free)
#                         and keep what is better on dev; overrides for it begin with `sequence.` (default: none)
#   --analyze             write a report too, of what the network learnt and where it errs (exp/dnn/analysis)
#   --num-jobs N          processes (default: the cores)
#
# stages: 0 corpus, 1 lang and alignments, 2 filter banks, 3 cmvn, 4 doctor, 5 graph, 6 frames cache, 7 training,
# 8 scaled likelihoods, 9 tuning on dev, 10 decoding, 11 scoring;
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

exp=exp/mini stage=0 stop_stage="" corpus_seed=1 speeds="" decoder=acoustic realign="" flat_start="" analyze="" num_jobs=$(nproc)
sequence=none flat_start_gauss=4000
train_utterances=30 dev_utterances=25 test_utterances=40
option_names=(exp stage stop_stage corpus_seed {train,dev,test}_utterances speeds decoder realign flat_start_gauss sequence num_jobs)
flag_names=(flat_start analyze)
parse_options "$@"
check_numbers stage corpus_seed {train,dev,test}_utterances num_jobs flat_start_gauss

mkdir -p "$exp"
exp=$(cd "$exp" && pwd)
decoder=$(choose_decoder "$decoder")
lang_dir=$exp/lang align_lang=$exp/lang model_dir=$exp/mono ali_dir=$exp/mono_ali graph_dir=$exp/graph
fbank_conf=$here/conf/fbank.conf experiment=mini
[ -z "$flat_start" ] || reference_ali=$ali_dir
flat_start_leaves=400
choose_flat_start "$flat_start"
check_numbers realign
check_sequence
number_stages
check_numbers stop_stage
tune_options=(--acoustic-scales=0.1,0.14,0.2,0.28 --insertion-penalties=0,0.5,1)

if run_stage 0 "corpus"; then
  python3 "$here/local/make_corpus.py" --seed "$corpus_seed" --num-jobs "$num_jobs" \
    --train-utterances "$train_utterances" --dev-utterances "$dev_utterances" \
    --test-utterances "$test_utterances" "$exp/corpus"
fi

if run_stage 1 "data directories, lang directory, alignments from the synthesiser's phone times"; then
  need_files "$exp/corpus/lm.arpa"
  for name in train dev test; do
    mkdir -p "$exp/data/$name"
    cp "$exp/corpus/$name"/{wav.scp,text,utt2spk,spk2utt} "$exp/data/$name"
  done
  acoustic prepare-lang --position-dependent-phones=false --num-sil-states=3 "$exp/corpus/dict" "<unk>" "$lang_dir"
  acoustic arpa2fst "$exp/corpus/lm.arpa" "$lang_dir" "$lang_dir/G.fst"
  python3 "$here/local/make_alignments.py" "$lang_dir" "$exp/mono" "$exp/mono_ali" "$exp/corpus/train" "$exp/corpus/dev"
  [ -z "$flat_start" ] || make_flat_alignments
fi

run_stages_with_realignment
