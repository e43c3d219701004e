# Flat start: a monophone system from transcripts and lexicon alone. To be sourced after realign.sh.
#
# First all states of an utterance are of equal length; then rounds of realign.sh train small networks for a few passes and
# align anew, and the last one trains the network of the recipe.

flat_start_rounds=4 # unless the user says --realign
flat_start_options=(model.hidden_layers=2 model.hidden_dim=256 schedule.max_epochs=2) # of all networks but the last

# choose_flat_start true|"": where a flat start has its model and alignments, its smaller networks, and the
# default of --realign.
choose_flat_start() {
  if [ -z "$1" ]; then
    realign=${realign:-0}
    return
  fi
  realign=${realign:-$flat_start_rounds} early_options=("${flat_start_options[@]}")
  lang_dir=$exp/lang align_lang=$exp/lang model_dir=$exp/flat_mono ali_dir=$exp/flat_ali graph_dir=$exp/graph
}

# Make the model, and alignments of train and dev with states of equal length.
make_flat_alignments() {
  local name job=0
  acoustic init-mono "$lang_dir" "$model_dir"
  rm -rf "$ali_dir"
  mkdir -p "$ali_dir"
  for name in train dev; do
    job=$((job + 1))
    acoustic compile-train-graphs --word-symbol-table="$lang_dir/words.txt" --oov="$(cat "$lang_dir/oov.txt")" \
      --num-jobs="$num_jobs" "$model_dir/tree" "$model_dir/final.mdl" "$lang_dir/L.fst" "$exp/data/$name/text" \
      "ark:$ali_dir/graphs.fsts"
    acoustic fbank --config="$fbank_conf" --num-jobs="$num_jobs" "$exp/data/$name" ark:- |
      acoustic align-equal "ark:$ali_dir/graphs.fsts" ark:- "ark:$ali_dir/ali.$job.gz"
    rm "$ali_dir/graphs.fsts"
  done
  acoustic est-transitions "$model_dir/final.mdl" "ark:$ali_dir/ali.1.gz" "$ali_dir/final.mdl"
  cp "$model_dir/tree" "$ali_dir/tree"
  echo "$job" > "$ali_dir/num_jobs"
}
