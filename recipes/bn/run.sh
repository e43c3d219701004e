#!/usr/bin/env bash
# Networks for English Broadcast News on top of a Kaldi experiment as egs/hub4_english/s5 makes it, after its tri4. Prints
# the results beside those published; the last line of output is the test set's %WER, the one with the larger grammar
# where that was used.
#
#   recipes/bn/run.sh [--kaldi-dir DIR] [--exp DIR] [--stage N] [--stop-stage M] [options] [hydra overrides]
#   recipes/bn/run.sh --kaldi-dir ~/kaldi/egs/hub4_english/s5 --exp exp/relu2k experiment=dahl2013_relu2k
#   recipes/bn/run.sh                                      # on a stand-in, see --kaldi-dir
#
# experiments: dahl2013_relu3k_dropout (the default), dahl2013_relu2k, dahl2013_sigmoid2k; what they are and what was
# published is written in conf/experiment/*.yaml. The paper's sets: --train-set train50 --dev-set rt03 --test-set dev04f
# with --dev-ali, --dev-decode, --test-decode, where the experiment has them.
#
# options:
#   --kaldi-dir DIR       the experiment: data/{train,eval97.pem}, exp/{tri4,tri4_ali}; nothing is written there but
#                         data/*/splitN. Without it a stand-in is made in --exp DIR/stand_in, minutes of synthetic speech
#                         in the same structure, and a network of its size is trained
#   --exp DIR             where everything goes (default: exp/bn_EXPERIMENT)
#   --stage N             first stage to run (default: 0); every stage can be run again
#   --stop-stage M        last stage to run (default: all)
#   --front-end WHICH     fmllr: the experiment's features, LDA and transforms; fbank: filter banks of its audio
#                         (default: fmllr)
#   --train-set, --dev-set, --test-set NAME   data directories (train; none: a twentieth of the training speakers are
#                         held out; eval97.pem)
#   --ali, --dev-ali NAME alignments in exp/ (tri4_ali, tri4_ali_dev); where there are none, steps/align_fmllr.sh makes
#                         them in --exp DIR
#   --graph NAME          decoding graph in exp/tri4 (graph_nosp)
#   --dev-decode, --test-decode NAME   first-pass decodes in exp/tri4 with transforms (decode_nosp_ and the set's name)
#   --old-lang, --new-lang NAME   grammars of graph and rescoring in data/ (lang_nosp_test, lang_nosp_test_rescore)
#   --tuning-utterances N utterances of dev that scale and penalty are chosen on (default: 400)
#   --decoder WHICH       kaldi, acoustic, or auto: Kaldi's programs if they are on PATH (default: auto). Rescoring and
#                         scoring by sclite take kaldi
#   --sequence WHICH      then train the network further by mmi or smbr (over lattices), lfmmi or lfsmbr (lattice-free)
#                         and keep what is better on dev; overrides for it begin with `sequence.` (default: none)
#   --num-jobs N          processes (default: the cores)
#
# stages: 0 experiment, data directories, 1 alignments of train and dev, 2 filter banks, 3 cmvn, 4 doctor, 5 graph,
# 6 frames cache, 7 training, 8 scaled likelihoods, 9 tuning on dev, 10 decoding, 11 scoring, 12 rescoring,
# 13 table of results; with --sequence: 14 training, 15 decoding and scoring, 16 the choice (exp/sequence_WHICH,
# exp/sequence, exp/best)
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/path.sh"
. "$here/../common/options.sh"
. "$here/../common/stages.sh"
. "$here/../common/kaldi_experiment.sh"
. "$here/../common/sequence.sh"

recipe=bn gmm_dir=exp/tri4 align_lang=lang_nosp
train_set=train dev_set="" test_set=eval97.pem ali=tri4_ali dev_ali=tri4_ali_dev
graph=graph_nosp dev_decode="" test_decode=""
old_lang=lang_nosp_test new_lang=lang_nosp_test_rescore
test_parts="" total_name=""
sclite_options=(--hub hub4 --ctm-filter "awk -f '$here/local/ctm_filter.awk'")
tune_options=()
stand_in_options=()
# What a stand-in has too little speech for.
stand_in_overrides=(model.hidden_dim=256 schedule.max_epochs=8)
parse_experiment_options dahl2013_relu3k_dropout "$@"
total_name=$test_set
dev_decode=${dev_decode:-decode_nosp_$dev_set} test_decode=${test_decode:-decode_nosp_$test_set}

run_experiment_stages
