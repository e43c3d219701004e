# Sequence training: the network that cross-entropy made is trained further by a criterion over whole utterances, and kept
# if it is better on dev. To be sourced after stages.sh.
#
# The recipe sets, beside what stages.sh asks for: sequence (none, mmi, smbr, lfmmi or lfsmbr). Everything goes into the
# folder $exp/sequence_CRITERION, an experiment like $exp itself: denlats (of mmi and smbr), dnn, decode. The following it
# sets where they differ from what stands here. Hydra overrides of the user that begin with `sequence.` are meant for this
# training (sequence.optim.learning_rate=1e-6), the others for the first.

sequence_options=()                         # hydra overrides of the recipe
lattice_options=(--beam=6 --lattice-beam=3) # of `acoustic lattices`; the scale is that of decoding

# check_sequence: end with an error unless $sequence is one of the criteria; take the overrides that are for it.
check_sequence() {
  local override kept=()
  case "$sequence" in
    none | mmi | smbr | lfmmi | lfsmbr) ;;
    *) die "--sequence $sequence: choose none, mmi, smbr, lfmmi or lfsmbr" ;;
  esac
  sequence_overrides=()
  for override in "${overrides[@]}"; do
    case "$override" in
      sequence.*) sequence_overrides+=("${override#sequence.}") ;;
      *) kept+=("$override") ;;
    esac
  done
  overrides=("${kept[@]}")
}

# num_sequence_stages: print how many stages it takes.
num_sequence_stages() {
  [ "$sequence" = none ] && echo 0 || echo 3
}

# run_sequence_stages FIRST: three stages from number FIRST on; before them, $exp/best is the experiment whose network is
# trained further, or there is none and it is $exp.
run_sequence_stages() {
  local to=$exp/sequence_$sequence before=$exp
  [ "$sequence" != none ] || return 0
  if [ -e "$exp/realignment" ]; then
    before=$exp/$(best_of "$exp/realignment")
  fi
  if run_stage "$1" "sequence training ($sequence)"; then
    need_files "$before/dnn/final.pt"
    train_sequence "$before" "$to" | sed 's/^/  /'
  fi
  if run_stage $(($1 + 1)) "its decoding and scoring"; then
    need_files "$to/dnn/final.pt"
    (
      exp=$to stage=8 stop_stage=11
      run_common_stages
    ) | sed 's/^/  /'
  fi
  if run_stage $(($1 + 2)) "the network that is better on dev"; then
    choose_sequence "$before" "$to"
  fi
}

# train_sequence BEFORE TO: train the network of one experiment further, in another.
train_sequence() {
  local before=$1 to=$2 options=("criterion=$sequence")
  mkdir -p "$to"
  ln -sfn "$exp/data" "$to/data"
  if [ -e "$before/ali/final.mdl" ]; then # its own alignments
    ali_dir=$before/ali dev_ali_dir=
  fi
  case "$sequence" in
    lf*) options+=(experiment=lfmmi) ;;
    *)
      speeds="" # no lattices of the copies
      make_denominator_lattices "$before" "$to/denlats"
      options+=("train.lat_dir='$to/denlats/train'" "dev.lat_dir='$to/denlats/dev'")
      if [ "$sequence" = smbr ]; then
        options+=(experiment=smbr)
        [ ! -e "$graph_dir/phones/silence.csl" ] ||
          options+=("criterion.silence_phones=[$(tr : , < "$graph_dir/phones/silence.csl")]")
      fi
      ;;
  esac
  exp=$before
  collect_data_options
  acoustic train-sequence "exp_dir='$to/dnn'" "init_from='$before/dnn'" "${data_options[@]}" "${options[@]}" \
    "${sequence_options[@]}" "${sequence_overrides[@]}"
}

# make_denominator_lattices BEFORE DIR: what else could have been said, in DIR/{train,dev}, by the network of an
# experiment at the scale that its decoding was tuned to, if it was.
make_denominator_lattices() {
  local name options=("${lattice_options[@]}")
  if [ -e "$1/decode/tuned.json" ]; then
    options+=("--acoustic-scale=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["acoustic_scale"])' \
      < "$1/decode/tuned.json")")
  fi
  for name in train dev; do
    mkdir -p "$2/$name"
    acoustic loglikes ${transforms[$name]:+"--fmllr=${transforms[$name]}"} "$1/dnn" "$exp/data/$name" ark:- |
      acoustic lattices --num-jobs="$num_jobs" "${options[@]}" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" ark:- \
        "ark:$2/$name/lat.1.gz"
  done
}

# choose_sequence BEFORE AFTER: write $exp/sequence, a line `folder dev-%WER test-%WER` for both, and make $exp/best a
# link to the folder of the better one. Its %WER lines are printed.
choose_sequence() {
  local folder best
  for folder in "$1" "$2"; do
    need_files "$folder/decode/$tuning_set/wer" "$folder/decode/test/wer"
    echo "$([ "$folder" = "$exp" ] && echo . || basename "$folder")" \
      "$(wer_in "$folder/decode/$tuning_set/wer") $(wer_in "$folder/decode/test/wer")"
  done > "$exp/sequence"
  awk 'NR == 1 { $1 = "cross-entropy" } { print "  " $1 ": dev " $2 ", test " $3 }' "$exp/sequence"
  best=$(best_of "$exp/sequence")
  ln -sfn "$best" "$exp/best"
  grep -h '^%WER' "$exp/best/decode/$tuning_set/wer" "$exp/best/decode/test/wer"
}

# best_of FILE: the folder of the lowest dev-%WER in a file of lines `folder dev-%WER test-%WER`; of equals the first.
best_of() {
  awk 'NR == 1 || $2 < least { best = $1; least = $2 } END { print best }' "$1"
}
