# Flat start: context-dependent states and first alignments from transcripts and lexicon alone. To be sourced after
# realign.sh.
#
# Mixtures of Gaussians for monophone states align (flat_mono, flat_mono_ali); on that a decision tree is grown
# (flat_tri), the alignments are converted to it, and mixtures of its states align anew (flat_ali). With --realign N the
# networks are small but for the last one.
#
# The recipe sets flat_start_leaves, how many pdfs the tree may have, and flat_start_gauss, how many Gaussians these have
# in the end; 0: there are none, the alignments stay those of monophones.

flat_start_sets=(train dev) # data directories that are aligned; the tree is grown on the first
flat_start_options=(model.hidden_layers=2 model.hidden_dim=256 schedule.max_epochs=2) # of all networks but the last

# choose_flat_start true|"": where a flat start has its model and alignments, and its smaller networks.
choose_flat_start() {
  realign=${realign:-0}
  [ -n "$1" ] || return 0
  early_options=("${flat_start_options[@]}")
  lang_dir=$exp/lang align_lang=$exp/lang model_dir=$exp/flat_tri ali_dir=$exp/flat_ali graph_dir=$exp/graph
}

# Make the model, and alignments of the sets. Filter banks are made here for that; those of the first also for the tree.
make_flat_alignments() {
  local name work=$exp/flat_work
  acoustic init-mono "$lang_dir" "$exp/flat_mono"
  rm -rf "$work"
  mkdir -p "$work"
  for name in "${flat_start_sets[@]}"; do
    acoustic fbank --config="$fbank_conf" --num-jobs="$num_jobs" "$exp/data/$name" "ark:$work/fbank.$name"
  done
  for name in "${flat_start_sets[@]}"; do
    cat "$work/fbank.$name" >> "$work/fbank"
    cat "$exp/data/$name/utt2spk" >> "$work/utt2spk"
    cat "$exp/data/$name/text" >> "$work/text"
  done
  make_flat_graphs "$exp/flat_mono"
  acoustic flat-start --utt2spk="ark:$work/utt2spk" --num-jobs="$num_jobs" "$exp/flat_mono/final.mdl" \
    "ark:$work/graphs" "ark:$work/fbank" "$exp/flat_mono_ali"
  acoustic build-tree --num-leaves="$flat_start_leaves" --utt2spk="ark:$work/utt2spk" "$lang_dir" "$exp/flat_mono_ali" \
    "ark:$work/fbank.${flat_start_sets[0]}" "$model_dir"
  acoustic convert-ali "$exp/flat_mono_ali/final.mdl" "$model_dir/final.mdl" "$model_dir/tree" "$exp/flat_mono_ali" \
    "ark:$work/converted"
  rm -rf "$ali_dir"
  if [ "$flat_start_gauss" -gt 0 ]; then
    make_flat_graphs "$model_dir"
    acoustic train-gmm --num-gauss="$flat_start_gauss" --utt2spk="ark:$work/utt2spk" --num-jobs="$num_jobs" \
      "$model_dir/final.mdl" "ark:$work/graphs" "ark:$work/fbank" "ark:$work/converted" "$ali_dir"
  else
    mkdir -p "$ali_dir"
    gzip -nc "$work/converted" > "$ali_dir/ali.1.gz"
    echo 1 > "$ali_dir/num_jobs"
    acoustic est-transitions "$model_dir/final.mdl" "ark:$ali_dir/ali.1.gz" "$ali_dir/final.mdl"
  fi
  rm -rf "$work"
  cp "$model_dir/tree" "$ali_dir/tree"
  cp "$ali_dir/final.mdl" "$model_dir/final.mdl"
  compare_with_reference "$ali_dir" "$exp/flat_ali"
}

# make_flat_graphs DIR: training graphs of DIR/tree and DIR/final.mdl.
make_flat_graphs() {
  acoustic compile-train-graphs --word-symbol-table="$lang_dir/words.txt" --oov="$(cat "$lang_dir/oov.txt")" \
    --num-jobs="$num_jobs" "$1/tree" "$1/final.mdl" "$lang_dir/L.fst" "ark:$exp/flat_work/text" \
    "ark:$exp/flat_work/graphs"
}
