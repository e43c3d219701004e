# The stages that every recipe shares, to be sourced: from data directories and alignments to word error rates.
#
# The recipe sets: exp (absolute), model_dir (tree, final.mdl), ali_dir, graph_dir, experiment (of conf/experiment),
# fbank_conf, speeds, decoder (kaldi or acoustic), analyze (not empty: a report too), tune_options, num_jobs, overrides;
# and has made $exp/data/{train,dev,test}. The following it sets where they differ from what stands here.

dev_ali_dir=            # alignments of dev; none: they are in ali_dir
tuning_set=dev          # what is decoded to choose scales and penalties: dev, or tune, a part of it
tuning_utterances=      # in that part
network_options=()      # hydra overrides of the recipe, which the user's may override in turn
declare -A transforms   # directories of fMLLR transforms of train, dev, test and tune
transforms=()

# shellcheck source=recipes/common/kaldi_decode.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi_decode.sh"

# Run stages 2 to 11 and print the word error rates.
run_common_stages() {
  local name features="features of the experiment"
  network=$exp/dnn

  [ -z "$fbank_conf" ] || features="filter banks${speeds:+, also of training data at speeds $speeds}"
  if run_stage 2 "$features"; then
    [ -z "$fbank_conf" ] || make_filter_banks
  fi

  if run_stage 3 "statistics of each speaker"; then
    make_statistics
  fi

  if run_stage 4 "doctor: everything that would go wrong later"; then
    examine train "$ali_dir"
    examine dev "${dev_ali_dir:-$ali_dir}"
    examine test
  fi

  if run_stage 5 "decoding graph"; then
    if [ -n "${lang_dir:-}" ]; then
      acoustic mkgraph "$lang_dir" "$model_dir" "$graph_dir"
    fi
    need_files "$graph_dir/HCLG.fst" "$graph_dir/words.txt" "$model_dir/final.mdl"
  fi

  if run_stage 6 "frames cache"; then
    train_network cache "$network"
  fi

  if run_stage 7 "training"; then
    train_network train "$network"
  fi

  if run_stage 8 "scaled likelihoods"; then
    need_files "$network/final.pt"
    if [ "$tuning_set" != dev ]; then
      python3 "$root/recipes/common/local/select_utterances.py" --number "$tuning_utterances" "$exp/data/dev" \
        "$exp/data/$tuning_set"
    fi
    for name in "$tuning_set" test; do
      mkdir -p "$exp/decode/$name"
      "loglikes_for_$decoder" "$name"
    done
  fi

  if run_stage 9 "acoustic scale and insertion penalty, chosen on dev"; then
    "tune_with_$decoder"
  fi

  if run_stage 10 "decoding dev and test"; then
    "decode_with_$decoder"
  fi

  if run_stage 11 "word error rates of dev and test"; then
    "score_with_$decoder"
    [ -z "${analyze:-}" ] || write_report
    grep -h '^%WER' "$exp/decode/$tuning_set/wer" "$exp/decode/test/wer"
  fi
}

# The names of the data directories in use.
sets() {
  echo "train ${speeds:+train_sp} dev test"
}

# Filter banks of every set, and of copies of the training data, with alignments, at other speeds.
make_filter_banks() {
  local name
  if [ -n "$speeds" ]; then
    acoustic perturb --speeds="$speeds" --ali-dir="$ali_dir" --out-ali-dir="$exp/ali_sp" --num-jobs="$num_jobs" \
      "$exp/data/train" "$exp/data/train_sp"
  fi
  mkdir -p "$exp/fbank"
  for name in $(sets); do
    acoustic fbank --config="$fbank_conf" --num-jobs="$num_jobs" "$exp/data/$name" \
      "ark,scp:$exp/fbank/$name.ark,$exp/data/$name/feats.scp"
  done
}

# CMVN statistics by speaker of every set that has none.
make_statistics() {
  local name
  mkdir -p "$exp/cmvn"
  for name in $(sets); do
    if [ -n "$fbank_conf" ] || [ ! -e "$exp/data/$name/cmvn.scp" ]; then
      acoustic cmvn --spk2utt="ark:$exp/data/$name/spk2utt" "scp:$exp/data/$name/feats.scp" \
        "ark,scp:$exp/cmvn/$name.ark,$exp/data/$name/cmvn.scp"
    fi
  done
}

# examine SET [ALI_DIR]: let doctor look for faults in a set and all that goes with it.
examine() {
  local options=()
  # Where features are stored, nothing reads the audio.
  [ -n "$fbank_conf" ] || options+=(--skip-audio)
  acoustic doctor "${options[@]}" ${2:+"--ali-dir=$2"} ${transforms[$1]:+"--transform-dir=${transforms[$1]}"} \
    --num-jobs="$num_jobs" "$exp/data/$1"
}

# train_network VERB EXP_DIR: `acoustic cache` or `acoustic train` with the recipe's configuration under the user's.
train_network() {
  local override
  collect_data_options
  [ -z "$fbank_conf" ] || data_options+=("features.fbank_config='$fbank_conf'")
  for override in "${overrides[@]}"; do
    case "$override" in
      experiment=*) experiment= ;;
      exp_dir=*) die "$override: the recipe decides where the network goes; give --exp DIR" ;;
    esac
  done
  acoustic "$1" "exp_dir='$2'" "${data_options[@]}" ${experiment:+"experiment=$experiment"} "${network_options[@]}" \
    "${overrides[@]}"
}

# collect_data_options: set the array data_options to the hydra overrides that name data, alignments and transforms.
collect_data_options() {
  local data_dirs="'$exp/data/train'" ali_dirs="'$ali_dir'" name
  data_options=("dev.data_dir='$exp/data/dev'" "dev.ali_dir='${dev_ali_dir:-$ali_dir}'" "data.num_jobs=$num_jobs")
  if [ -n "$speeds" ]; then
    data_dirs+=",'$exp/data/train_sp'" ali_dirs+=",'$exp/ali_sp'"
  fi
  data_options+=("train.data_dir=[$data_dirs]" "train.ali_dir=[$ali_dirs]")
  for name in train dev; do
    [ -z "${transforms[$name]:-}" ] || data_options+=("$name.transform_dir='${transforms[$name]}'")
  done
}

# write_report: what the network learnt and where it errs on dev, as a page in its folder.
write_report() {
  local options=("--ali-dir=${dev_ali_dir:-$ali_dir}" "--graph-dir=$graph_dir")
  [ ! -e "$exp/decode/tuned.json" ] || options+=("--tuned=$exp/decode/tuned.json")
  acoustic analyze "${options[@]}" ${transforms[dev]:+"--fmllr=${transforms[dev]}"} "$network" "$exp/data/dev" \
    "$network/analysis"
}

# loglikes_for_acoustic SET: write decode/SET/loglikes.
loglikes_for_acoustic() {
  acoustic loglikes ${transforms[$1]:+"--fmllr=${transforms[$1]}"} "$network" "$exp/data/$1" \
    "ark,scp:$exp/decode/$1/loglikes.ark,$exp/decode/$1/loglikes.scp"
}

# Choose on dev with our decoder.
tune_with_acoustic() {
  need_files "$exp/decode/$tuning_set/loglikes.scp"
  acoustic decode-tune "${tune_options[@]}" --num-jobs="$num_jobs" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" \
    "scp:$exp/decode/$tuning_set/loglikes.scp" "$exp/data/$tuning_set/text" "$exp/decode/tuned.json"
}

# Write decode/SET/text of dev and test.
decode_with_acoustic() {
  local name
  need_files "$exp/decode/tuned.json" "$exp/decode/test/loglikes.scp"
  for name in "$tuning_set" test; do
    acoustic decode --tuned="$exp/decode/tuned.json" --num-jobs="$num_jobs" \
      --word-symbol-table="$graph_dir/words.txt" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" \
      "scp:$exp/decode/$name/loglikes.scp" "ark,t:$exp/decode/$name/text"
  done
}

# Write decode/SET/wer of dev and test: the word error rate, its confidence interval, and the table of speakers.
score_with_acoustic() {
  local name
  need_files "$exp/decode/$tuning_set/text" "$exp/decode/test/text"
  for name in "$tuning_set" test; do
    acoustic score --utt2spk="$exp/data/$name/utt2spk" "$exp/data/$name/text" "$exp/decode/$name/text" \
      > "$exp/decode/$name/wer.tmp"
    mv "$exp/decode/$name/wer.tmp" "$exp/decode/$name/wer"
  done
}

# absolute_paths DIR: copy a wav.scp, feats.scp or cmvn.scp from standard input, its relative paths now starting at DIR.
absolute_paths() {
  awk -v dir="$1" '/\|[ \t]*$/ || $2 ~ /^\// { print; next } { name = $1; sub(/^[^ \t]+[ \t]+/, ""); print name, dir "/" $0 }'
}

# wer_in FILE: the per cent of its %WER line.
wer_in() {
  awk '/^%WER/ { print $2; exit }' "$1"
}
