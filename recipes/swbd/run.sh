#!/usr/bin/env bash
# Networks for Switchboard on top of Kaldi's egs/swbd/s5c, after its tri4. Prints the results beside those published;
# the last line of output is the test set's %WER, the one with the larger grammar where that was used.
#
#   recipes/swbd/run.sh [--kaldi-dir DIR] [--exp DIR] [--stage N] [--stop-stage M] [options] [hydra overrides]
#   recipes/swbd/run.sh --kaldi-dir ~/kaldi/egs/swbd/s5c --exp exp/maas2013 experiment=maas2013 model=leaky_relu
#   recipes/swbd/run.sh                                    # on a stand-in, see --kaldi-dir
#
# experiments: maas2013 (the default), maas2014 (both on the experiment's fMLLR features), swbd_fbank; what they are and
# what was published is written in conf/experiment/*.yaml.
#
# options:
#   --kaldi-dir DIR       the experiment: data/{train_nodup,train_dev,eval2000}, exp/{tri4,tri4_ali_nodup}; nothing is
#                         written there but data/*/splitN. Without it a stand-in is made in --exp DIR/stand_in, minutes
#                         of synthetic speech in the same structure, and a network of its size is trained
#   --exp DIR             where everything goes (default: exp/swbd_EXPERIMENT)
#   --stage N             first stage to run (default: 0); every stage can be run again
#   --stop-stage M        last stage to run (default: all)
#   --front-end WHICH     fmllr: the experiment's features, LDA and transforms; fbank: filter banks of its audio
#                         (default: what the experiment file is about)
#   --train-set, --dev-set, --test-set NAME   data directories (train_nodup, train_dev, eval2000)
#   --ali, --dev-ali NAME alignments in exp/ (tri4_ali_nodup, tri4_ali_dev); where there are none,
#                         steps/align_fmllr.sh makes them in --exp DIR
#   --graph NAME          decoding graph in exp/tri4 (graph_sw1_tg)
#   --dev-decode, --test-decode NAME   first-pass decodes in exp/tri4 with transforms (decode_dev_sw1_tg,
#                         decode_eval2000_sw1_tg)
#   --old-lang, --new-lang NAME   grammars of graph and rescoring in data/ (lang_sw1_tg, lang_sw1_fsh_fg)
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

recipe=swbd gmm_dir=exp/tri4 align_lang=lang
train_set=train_nodup dev_set=train_dev test_set=eval2000 ali=tri4_ali_nodup dev_ali=tri4_ali_dev
graph=graph_sw1_tg dev_decode=decode_dev_sw1_tg test_decode=decode_eval2000_sw1_tg
old_lang=lang_sw1_tg new_lang=lang_sw1_fsh_fg
test_parts="swbd=sw_ callhome=en_" total_name=total
sclite_options=(--ctm-filter "'$here/local/ctm_filter.sh'")
tune_options=()
stand_in_options=()
# What a stand-in has too little speech for.
stand_in_overrides=(model.hidden_dim=256 optim.momentum_steps=1000 schedule.max_epochs=8)
parse_experiment_options maas2013 "$@"

run_experiment_stages
