# Flat start: context-dependent states and first alignments from transcripts and lexicon alone. To be sourced after
# realign.sh.
#
# Mixtures of Gaussians for monophone states align (flat_mono, flat_mono_ali); on that a decision tree is grown
# (flat_tri), and the alignments are converted to it (flat_ali). With --realign N the networks are small but for the last
# one.

flat_start_leaves= # the recipe says how many pdfs the tree may have
flat_start_options=(model.hidden_layers=2 model.hidden_dim=256 schedule.max_epochs=2) # of all networks but the last

# choose_flat_start true|"": where a flat start has its model and alignments, and its smaller networks.
choose_flat_start() {
  realign=${realign:-0}
  [ -n "$1" ] || return 0
  early_options=("${flat_start_options[@]}")
  lang_dir=$exp/lang align_lang=$exp/lang model_dir=$exp/flat_tri ali_dir=$exp/flat_ali graph_dir=$exp/graph
}

# Make the model, and alignments of train and dev. Filter banks are made here for that; those of train also for the tree.
make_flat_alignments() {
  local name work=$exp/flat_work
  acoustic init-mono "$lang_dir" "$exp/flat_mono"
  rm -rf "$work"
  mkdir -p "$work"
  for name in train dev; do
    acoustic compile-train-graphs --word-symbol-table="$lang_dir/words.txt" --oov="$(cat "$lang_dir/oov.txt")" \
      --num-jobs="$num_jobs" "$exp/flat_mono/tree" "$exp/flat_mono/final.mdl" "$lang_dir/L.fst" \
      "$exp/data/$name/text" "ark:$work/graphs.$name"
    acoustic fbank --config="$fbank_conf" --num-jobs="$num_jobs" "$exp/data/$name" "ark:$work/fbank.$name"
  done
  cat "$exp"/data/{train,dev}/utt2spk > "$work/utt2spk"
  cat "$work"/graphs.{train,dev} > "$work/graphs"
  cat "$work"/fbank.{train,dev} |
    acoustic flat-start --utt2spk="ark:$work/utt2spk" --num-jobs="$num_jobs" "$exp/flat_mono/final.mdl" \
      "ark:$work/graphs" ark:- "$exp/flat_mono_ali"
  acoustic build-tree --num-leaves="$flat_start_leaves" --utt2spk="ark:$work/utt2spk" "$lang_dir" "$exp/flat_mono_ali" \
    "ark:$work/fbank.train" "$model_dir"
  rm -rf "$work" "$ali_dir"
  mkdir -p "$ali_dir"
  acoustic convert-ali "$exp/flat_mono_ali/final.mdl" "$model_dir/final.mdl" "$model_dir/tree" "$exp/flat_mono_ali" \
    "ark:$ali_dir/ali.1.gz"
  acoustic est-transitions "$model_dir/final.mdl" "ark:$ali_dir/ali.1.gz" "$ali_dir/final.mdl"
  cp "$model_dir/tree" "$ali_dir/tree"
  cp "$ali_dir/final.mdl" "$model_dir/final.mdl"
  echo 1 > "$ali_dir/num_jobs"
  compare_with_reference "$ali_dir" "$exp/flat_ali"
}
