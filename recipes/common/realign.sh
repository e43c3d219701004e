# Realignment: the network aligns the data that it was trained on, training goes on from it, or begins anew, on these
# alignments, and the network that is better on dev is kept. To be sourced after stages.sh.
#
# The recipe sets, beside what stages.sh asks for: realign (number of rounds), align_lang (lang directory of the
# alignments: L.fst, words.txt, oov.txt, phones.txt). Round N is the folder $exp/realignN, an experiment like $exp itself:
# ali, scores.SET (log likelihood per frame of each utterance), changes.SET (what moved, by phone), dnn, decode. The
# following the recipe sets where they differ from what stands here.

reference_ali=   # alignments to compare those of each round with, into reference.SET
early_options=() # hydra overrides of all networks but the last
# Hydra overrides of training that goes on from the network that aligned; if empty, or if that was an early one, training
# begins anew. What they set is theirs: the user's overrides of the same options are for the first network, and so are
# those of the learning rate, of which rounds take the part further_rate (of the rate in $exp/dnn/config.yaml).
further_options=()
further_rate=1

# number_stages: the last stage, unless the user said another: 11, with realignment two for each round and one more, with
# sequence training three more.
number_stages() {
  last_of_realignment=$((realign > 0 ? 12 + 2 * realign : 11))
  stop_stage=${stop_stage:-$((last_of_realignment + $(num_sequence_stages)))}
}

# Run all stages: those of every recipe, then two for each round, and the choice; then those of sequence training.
run_stages_with_realignment() {
  local recipe_options=("${network_options[@]}")
  if [ "$realign" -gt 0 ]; then
    network_options+=("${early_options[@]}")
  fi
  run_common_stages
  run_realignment_stages "${recipe_options[@]}"
  run_sequence_stages $((last_of_realignment + 1))
}

# run_realignment_stages OVERRIDE...: two stages for each round, then the choice; overrides are those of the last network.
run_realignment_stages() {
  local round before=$exp aligned_by first_ali_dir=$ali_dir
  for round in $(seq "$realign"); do
    if run_stage $((10 + 2 * round)) "round $round: alignment by the network of ${before##*/}"; then
      align_with "$before/dnn" "$exp/realign$round"
      report_changes "$first_ali_dir" "$exp/realign$round"
    fi
    ali_dir=$exp/realign$round/ali aligned_by=$before before=$exp/realign$round
    if [ "$round" = "$realign" ]; then
      network_options=("$@")
    fi
    if run_stage $((11 + 2 * round)) "round $round: training on it, decoding, scoring"; then
      train_round "$exp/realign$round" "$aligned_by"
    fi
  done
  if [ "$realign" -gt 0 ] && run_stage $((12 + 2 * realign)) "the network that is better on dev"; then
    choose_round
  fi
}

# align_with NETWORK ROUND_DIR: align train, its copies at other speeds, and dev, into ROUND_DIR/ali; transition
# probabilities are estimated on train alone, since its copies speak faster or slower.
align_with() {
  local name job=0 to=$2/ali
  need_files "$1/final.pt" "$ali_dir/tree" "$ali_dir/final.mdl" "$align_lang"/{L.fst,words.txt,oov.txt,phones.txt}
  rm -rf "$2"
  mkdir -p "$to"
  ln -s ../data "$2/data"
  ln -s ali "$2/ali_sp"
  for name in train ${speeds:+train_sp} dev; do
    job=$((job + 1))
    acoustic compile-train-graphs --word-symbol-table="$align_lang/words.txt" --oov="$(cat "$align_lang/oov.txt")" \
      --num-jobs="$num_jobs" "$ali_dir/tree" "$ali_dir/final.mdl" "$align_lang/L.fst" "$exp/data/$name/text" \
      "ark:$2/graphs.fsts"
    acoustic loglikes ${transforms[$name]:+"--fmllr=${transforms[$name]}"} "$1" "$exp/data/$name" ark:- |
      acoustic align --scores-per-frame --num-jobs="$num_jobs" "$ali_dir/final.mdl" "ark:$2/graphs.fsts" ark:- \
        "ark:$to/ali.$job.gz" "ark,t:$2/scores.$name"
    rm "$2/graphs.fsts"
  done
  acoustic est-transitions "$ali_dir/final.mdl" "ark:$to/ali.1.gz" "$to/final.mdl"
  cp "$ali_dir/tree" "$to/tree"
  echo "$job" > "$to/num_jobs"
}

# report_changes FIRST_ALI_DIR ROUND_DIR: what this round moved and, from the second one on, what all of them did.
report_changes() {
  local name
  for name in train dev; do
    acoustic compare-ali --lang-dir="$align_lang" --data-dir="$exp/data/$name" "$ali_dir" "$2/ali" > "$2/changes.$name"
    if [ "$ali_dir" != "$1" ]; then
      acoustic compare-ali --lang-dir="$align_lang" --data-dir="$exp/data/$name" "$1" "$2/ali" > "$2/all_changes.$name"
    fi
  done
  sed '/^$/,$d' "$2/changes.train"
  compare_with_reference "$2/ali" "$2"
}

# compare_with_reference ALI_DIR TO_DIR: how far alignments are from the reference, if there is one: TO_DIR/reference.SET.
compare_with_reference() {
  local name
  [ -n "$reference_ali" ] || return 0
  for name in train dev; do
    acoustic compare-ali --lang-dir="$align_lang" --data-dir="$exp/data/$name" "$reference_ali" "$1" \
      > "$2/reference.$name"
  done
  sed 's/^/  from the reference: /; /^[^:]*: $/,$d' "$2/reference.train"
}

# train_round ROUND_DIR BEFORE: from the frames cache to word error rates (stages 6 to 11), as for the first network;
# BEFORE is the experiment whose network aligned.
train_round() {
  (
    need_files "$1/ali/final.mdl"
    if [ ${#further_options[@]} -gt 0 ] && [ ${#early_options[@]} -eq 0 ]; then
      need_files "$2/dnn/final.pt" "$exp/dnn/config.yaml"
      go_on_from "$2/dnn"
    fi
    exp=$1 stage=6 stop_stage=11 dev_ali_dir=
    run_common_stages
  ) | sed 's/^/  /'
}

# go_on_from NETWORK: let training begin with this network, whose front end is taken, at a part of the first one's rate.
go_on_from() {
  local rate override name further kept=()
  rate=$(setting_of_network optim learning_rate | awk -v part="$further_rate" '{ printf "%g", part * $1 }')
  further=("optim.learning_rate=$rate" "data.batch_size=$(setting_of_network data batch_size)" "${further_options[@]}")
  network_options+=("init_from='$1'" "${further[@]}")
  for override in "${overrides[@]}"; do
    name=${override%%=*}
    name=${name#"${name%%[!+~]*}"}
    case "$name" in
      features | features.* | pretrain | pretrain.* | init_from) continue ;;
    esac
    [[ " ${further[*]%%=*} " == *" $name "* ]] || kept+=("$override")
  done
  overrides=("${kept[@]}")
}

# setting_of_network SECTION NAME: print an option that the network before was trained with.
setting_of_network() {
  awk -v section="$1:" -v name="$2:" '
    /^[^ ]/ { current = $1 }
    current == section && $1 == name { print $2; found = 1 }
    END { exit !found }
  ' "$exp/dnn/config.yaml" || die "$exp/dnn/config.yaml tells no $1.$2"
}

# choose_round: write $exp/realignment, a line `folder dev-%WER test-%WER` for each network, and make $exp/best a link to
# the folder of the best; of equals the earlier one. Its %WER lines are printed.
choose_round() {
  local folder round dev best="" least=""
  for round in . $(seq -f "realign%g" "$realign"); do
    folder=$exp/$round
    need_files "$folder/decode/$tuning_set/wer" "$folder/decode/test/wer"
    dev=$(wer_in "$folder/decode/$tuning_set/wer")
    echo "$round $dev $(wer_in "$folder/decode/test/wer")"
    if [ -z "$best" ] || awk "BEGIN { exit !($dev < $least) }"; then
      best=$round least=$dev
    fi
  done > "$exp/realignment"
  awk '{ print "  " ($1 == "." ? "without realignment" : $1) ": dev " $2 ", test " $3 }' "$exp/realignment"
  ln -sfn "$best" "$exp/best"
  grep -h '^%WER' "$exp/best/decode/$tuning_set/wer" "$exp/best/decode/test/wer"
}
