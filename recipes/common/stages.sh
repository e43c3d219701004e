# The stages that every recipe shares, to be sourced: from data directories and alignments to word error rates.
#
# The recipe sets: exp (absolute), model_dir (tree, final.mdl), ali_dir, graph_dir, experiment (of conf/experiment),
# fbank_conf, speeds, decoder (kaldi or acoustic), tune_options, num_jobs, overrides; and has made $exp/data/{train,dev,test}.

# shellcheck source=recipes/common/kaldi_decode.sh
. "$(dirname "${BASH_SOURCE[0]}")/kaldi_decode.sh"

# Run stages 2 to 11 and print the word error rates.
run_common_stages() {
  local name network=$exp/dnn

  if run_stage 2 "filter banks${speeds:+, also of training data at speeds $speeds}"; then
    perturb_train
    for name in $(sets); do
      mkdir -p "$exp/fbank"
      acoustic fbank --config="$fbank_conf" --num-jobs="$num_jobs" "$exp/data/$name" \
        "ark,scp:$exp/fbank/$name.ark,$exp/data/$name/feats.scp"
    done
  fi

  if run_stage 3 "statistics of each speaker"; then
    for name in $(sets); do
      mkdir -p "$exp/cmvn"
      acoustic cmvn --spk2utt="ark:$exp/data/$name/spk2utt" "scp:$exp/data/$name/feats.scp" \
        "ark,scp:$exp/cmvn/$name.ark,$exp/data/$name/cmvn.scp"
    done
  fi

  if run_stage 4 "doctor: everything that would go wrong later"; then
    for name in train dev; do
      acoustic doctor --ali-dir="$ali_dir" "$exp/data/$name"
    done
    acoustic doctor "$exp/data/test"
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
    for name in dev test; do
      mkdir -p "$exp/decode/$name"
      acoustic loglikes "$network" "$exp/data/$name" \
        "ark,scp:$exp/decode/$name/loglikes.ark,$exp/decode/$name/loglikes.scp"
    done
  fi

  if run_stage 9 "acoustic scale and insertion penalty, chosen on dev"; then
    need_files "$exp/decode/dev/loglikes.scp"
    "tune_with_$decoder"
  fi

  if run_stage 10 "decoding dev and test"; then
    need_files "$exp/decode/tuned.json" "$exp/decode/test/loglikes.scp"
    for name in dev test; do
      "decode_with_$decoder" "$name"
    done
  fi

  if run_stage 11 "word error rates of dev and test"; then
    need_files "$exp/decode/dev/text" "$exp/decode/test/text"
    for name in dev test; do
      "score_with_$decoder" "$name" > "$exp/decode/$name/wer.tmp"
      mv "$exp/decode/$name/wer.tmp" "$exp/decode/$name/wer"
    done
    grep -h '^%WER' "$exp/decode/dev/wer" "$exp/decode/test/wer"
  fi
}

# The names of the data directories in use.
sets() {
  echo "train ${speeds:+train_sp} dev test"
}

# Copies of the training data, and of its alignments, at other speeds.
perturb_train() {
  [ -n "$speeds" ] || return 0
  acoustic perturb --speeds="$speeds" --ali-dir="$ali_dir" --out-ali-dir="$exp/ali_sp" --num-jobs="$num_jobs" \
    "$exp/data/train" "$exp/data/train_sp"
}

# train_network VERB EXP_DIR: `acoustic cache` or `acoustic train` with the recipe's configuration under the user's.
train_network() {
  local data_dirs="'$exp/data/train'" ali_dirs="'$ali_dir'" defaults=("experiment=$experiment") override
  if [ -n "$speeds" ]; then
    data_dirs+=",'$exp/data/train_sp'" ali_dirs+=",'$exp/ali_sp'"
  fi
  for override in "${overrides[@]}"; do
    case "$override" in
      experiment=*) defaults=() ;;
      exp_dir=*) die "$override: the recipe decides where the network goes; give --exp DIR" ;;
    esac
  done
  acoustic "$1" "exp_dir='$2'" "train.data_dir=[$data_dirs]" "train.ali_dir=[$ali_dirs]" \
    "dev.data_dir='$exp/data/dev'" "dev.ali_dir='$ali_dir'" "features.fbank_config='$fbank_conf'" \
    "data.num_jobs=$num_jobs" "${defaults[@]}" "${overrides[@]}"
}

# Choose on dev with our decoder.
tune_with_acoustic() {
  acoustic decode-tune "${tune_options[@]}" --num-jobs="$num_jobs" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" \
    "scp:$exp/decode/dev/loglikes.scp" "$exp/data/dev/text" "$exp/decode/tuned.json"
}

# decode_with_acoustic SET: write decode/SET/text.
decode_with_acoustic() {
  acoustic decode --tuned="$exp/decode/tuned.json" --num-jobs="$num_jobs" \
    --word-symbol-table="$graph_dir/words.txt" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" \
    "scp:$exp/decode/$1/loglikes.scp" "ark,t:$exp/decode/$1/text"
}

# score_with_acoustic SET: the word error rate, its confidence interval, and the table of speakers.
score_with_acoustic() {
  acoustic score --utt2spk="$exp/data/$1/utt2spk" "$exp/data/$1/text" "$exp/decode/$1/text"
}

# absolute_paths DIR: copy a wav.scp from standard input, its relative paths now starting at DIR.
absolute_paths() {
  awk -v dir="$1" '/\|[ \t]*$/ || $2 ~ /^\// { print; next } { name = $1; sub(/^[^ \t]+[ \t]+/, ""); print name, dir "/" $0 }'
}
