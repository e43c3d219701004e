# The stages of recipes that start from a Kaldi experiment with a speaker-adapted GMM (tri4: LDA, MLLT, fMLLR), to be
# sourced after stages.sh.
#
# The recipe sets, beside what stages.sh asks for: recipe, kaldi_dir, train_set, dev_set (none: a twentieth of the
# training speakers is held out), test_set, ali, dev_ali (in exp/), gmm_dir (exp/tri4), graph, dev_decode, test_decode
# (in gmm_dir), align_lang, old_lang, new_lang (in data/), front_end, tuning_utterances, stand_in_options, test_parts
# (name=beginning of utterance ids), total_name (column of the whole test set), sclite_options.

# parse_experiment_options DEFAULT_EXPERIMENT ARGUMENT...: the command line of such a recipe.
parse_experiment_options() {
  kaldi_tuning=(--min-lmwt 5 --max-lmwt 17 --penalties 0.0,0.5,1.0) # as score_sclite.sh of both has it
  kaldi_dir="" exp="" stage=0 stop_stage="" front_end="" tuning_utterances=400 decoder=auto num_jobs=$(nproc) speeds=""
  sequence=none
  option_names=(kaldi_dir exp stage stop_stage front_end {train,dev,test}_set ali dev_ali graph {dev,test}_decode
    {old,new}_lang tuning_utterances decoder sequence num_jobs)
  choose_experiment "$@"
  check_sequence
  stop_stage=${stop_stage:-$((13 + $(num_sequence_stages)))}
  check_numbers stage stop_stage tuning_utterances num_jobs
  decoder=$(choose_decoder "$decoder")
  exp=${exp:-exp/${recipe}_$experiment}
  mkdir -p "$exp"
  exp=$(cd "$exp" && pwd)
  is_stand_in=""
  if [ -z "$kaldi_dir" ]; then
    is_stand_in=1 kaldi_dir=$exp/stand_in
  else
    [ -d "$kaldi_dir/data" ] || die "$kaldi_dir/data is no folder: --kaldi-dir is that of a Kaldi experiment"
    kaldi_dir=$(cd "$kaldi_dir" && pwd)
  fi
  export kaldi_dir # for the recipe's own programs
  case "${front_end:-$experiment}" in
    *fbank) front_end=fbank fbank_conf=$root/recipes/$recipe/conf/fbank.conf ;;
    *) front_end=${front_end:-fmllr} fbank_conf="" ;;
  esac
}

# choose_experiment DEFAULT ARGUMENT...: parse the options, and set `experiment` from the overrides, less of it.
choose_experiment() {
  local override kept=() default=$1
  shift
  parse_options "$@"
  experiment=$default
  for override in "${overrides[@]}"; do
    case "$override" in
      experiment=*) experiment=${override#*=} ;;
      *) kept+=("$override") ;;
    esac
  done
  overrides=("${kept[@]}")
}

# What every stage needs to know: where things of the experiment are.
locate_experiment() {
  local gmm=$kaldi_dir/$gmm_dir
  model_dir=$gmm graph_dir=$gmm/$graph
  ali_dir=$(first_with final.mdl "$kaldi_dir/exp/$ali" "$exp/$ali")
  dev_ali_dir=""
  [ -z "$dev_set" ] || dev_ali_dir=$(first_with final.mdl "$kaldi_dir/exp/$dev_ali" "$exp/$dev_ali")
  case "$front_end" in
    fmllr)
      network_options+=("features.kaldi_dir='$gmm'")
      transforms[train]=$ali_dir transforms[dev]=${dev_ali_dir:-$ali_dir} transforms[test]=$gmm/$test_decode
      # Transforms of aligned data know the words: of dev those are better which decoding estimated, as test's are.
      transforms[tune]=$(first_with trans.1 "$gmm/$dev_decode" "${transforms[dev]}")
      ;;
    fbank) ;;
    *) die "--front-end $front_end: choose fmllr (features of the experiment) or fbank (filter banks of its audio)" ;;
  esac
  tuning_set=tune
  if [ -e "$kaldi_dir/STAND_IN" ]; then # small, and its lattices dense, for little speech makes poor networks
    network_options+=("${stand_in_overrides[@]}")
    tune_options=(--acoustic-scales=0.07,0.1,0.14,0.2,0.28 --insertion-penalties=0,0.5,1)
    kaldi_decoding=(--beam 11 --lattice-beam 4 --max-active 2000)
  fi
}

# first_with FILE DIR...: print the first of some directories that holds a file, or the last.
first_with() {
  local file=$1 dir
  shift
  for dir in "$@"; do
    [ ! -e "$dir/$file" ] || break
  done
  echo "$dir"
}

# Stages 0 and 1, then those of every recipe, rescoring, and the table of results.
run_experiment_stages() {
  if run_stage 0 "the experiment and its data directories"; then
    make_stand_in
    check_experiment
    copy_data_dir "$train_set" train
    copy_data_dir "$test_set" test
    if [ -n "$dev_set" ]; then
      copy_data_dir "$dev_set" dev
    else
      hold_out_dev
    fi
  fi

  locate_experiment
  if run_stage 1 "alignments of train and dev"; then
    align_set "$train_set" "$ali_dir"
    [ -z "$dev_set" ] || align_set "$dev_set" "$dev_ali_dir"
  fi

  run_common_stages

  if run_stage 12 "rescoring with the larger grammar"; then
    rescore_lattices
  fi

  if run_stage 13 "table of results"; then
    print_results
  fi

  run_sequence_stages 14
}

# Without --kaldi-dir: make a stand-in, and a network of its size.
make_stand_in() {
  [ -n "$is_stand_in" ] || return 0
  "$root/recipes/common/stand_in.sh" "${stand_in_options[@]}" --num-jobs "$num_jobs" "$recipe" "$kaldi_dir"
}

# check_experiment: end with an error naming the first thing that is missing, and what makes it.
check_experiment() {
  local set gmm=$kaldi_dir/$gmm_dir
  for set in "$train_set" $dev_set "$test_set"; do
    need_made "data/$set/utt2spk" "the data preparation of the experiment's run.sh"
    need_made "data/$set/text" "the data preparation of the experiment's run.sh"
    [ "$front_end" = fbank ] || need_made "data/$set/feats.scp" "steps/make_mfcc.sh and steps/compute_cmvn_stats.sh"
    [ "$front_end" = fmllr ] || need_made "data/$set/wav.scp" "the data preparation of the experiment's run.sh"
  done
  need_made "$gmm_dir/final.mdl" "steps/train_sat.sh, in the experiment's run.sh"
  need_made "$gmm_dir/$graph/HCLG.fst" "utils/mkgraph.sh data/$old_lang $gmm_dir $gmm_dir/$graph"
  [ "$front_end" = fbank ] ||
    need_made "$gmm_dir/$test_decode/trans.1" \
      "steps/decode_fmllr.sh $gmm_dir/$graph data/$test_set $gmm_dir/$test_decode"
}

# need_made FILE HOW: end with an error if a file of the experiment is missing, saying what makes it.
need_made() {
  [ -e "$kaldi_dir/$1" ] || die "$kaldi_dir/$1 is missing; it is made by $2"
}

# copy_data_dir SET NAME: the experiment's data directory SET as $exp/data/NAME, its paths absolute.
copy_data_dir() {
  local from=$kaldi_dir/data/$1 to=$exp/data/$2 name
  rm -rf "$to"
  mkdir -p "$to"
  for name in text utt2spk spk2utt segments reco2file_and_channel stm glm; do
    [ ! -e "$from/$name" ] || cp "$from/$name" "$to"
  done
  for name in wav.scp feats.scp cmvn.scp; do
    [ ! -e "$from/$name" ] || absolute_paths "$kaldi_dir" < "$from/$name" > "$to/$name"
  done
  [ -z "$fbank_conf" ] || rm -f "$to"/{feats,cmvn}.scp
}

# Every twentieth training speaker to dev.
hold_out_dev() {
  mv "$exp/data/train" "$exp/data/all"
  python3 "$root/recipes/common/local/select_utterances.py" --every-speaker 20 --rest "$exp/data/train" \
    "$exp/data/all" "$exp/data/dev"
  rm -r "$exp/data/all"
}

# align_set SET ALI_DIR: with fMLLR by the experiment's own scripts, unless that was done before.
align_set() {
  if [ -e "$2/num_jobs" ] && [ -e "$2/ali.1.gz" ]; then
    echo "  $2 is there"
    return
  fi
  need_made steps/align_fmllr.sh "Kaldi: the alignments exp/$(basename "$2") are missing, and so is the script for them"
  (
    cd "$kaldi_dir"
    set +u
    [ ! -f cmd.sh ] || . ./cmd.sh
    [ ! -f path.sh ] || . ./path.sh
    steps/align_fmllr.sh --nj "$num_jobs" --cmd "${train_cmd:-run.pl}" "data/$1" "data/$align_lang" "$gmm_dir" "$2"
  ) || die "steps/align_fmllr.sh failed on $1; its logs are in $2/log"
}

# Lattices of dev and test with the larger grammar, scored; it takes Kaldi's lattices and programs.
rescore_lattices() {
  local name missing=""
  rm -rf "$exp/decode"/*_rescored
  if [ "$decoder" != kaldi ] || ! command -v lattice-lmrescore > /dev/null; then
    missing="Kaldi's programs on PATH"
  elif [ ! -d "$kaldi_dir/data/$new_lang" ]; then
    missing="$kaldi_dir/data/$new_lang"
  fi
  if [ -n "$missing" ]; then
    echo "  left out: it needs $missing"
    return
  fi
  for name in "$tuning_set" test; do
    "$kaldi_scripts/rescore_kaldi.sh" "$kaldi_dir/data/$old_lang" "$kaldi_dir/data/$new_lang" \
      "$exp/decode/$name" "$exp/decode/${name}_rescored"
  done
  score_lattices "$kaldi_dir/data/$new_lang" "$exp/decode/${tuning_set}_rescored" "$exp/decode/test_rescored"
}

# The results of this run beside published ones, in $exp/RESULTS too, then the test set's %WER line.
print_results() {
  local suffix grammar=$old_lang measured=()
  for suffix in "" _rescored; do
    if [ -e "$exp/decode/test$suffix/wer" ]; then
      score_parts "$suffix"
      measured+=(--measured "here, ${grammar#lang_}" "$exp/decode/test$suffix/parts")
    fi
    grammar=$new_lang
  done
  [ ${#measured[@]} -gt 0 ] || die "nothing was scored yet: run the earlier stages"
  {
    python3 "$root/recipes/common/local/results_table.py" --experiment "$experiment" \
      --metrics "$exp/dnn/metrics.jsonl" "${measured[@]}" "$root/recipes/$recipe/published.tsv"
    if [ -e "$kaldi_dir/STAND_IN" ]; then
      echo "Here means on a stand-in; its numbers say nothing about the published task."
    fi
  } > "$exp/RESULTS"
  cat "$exp/RESULTS" "$exp/decode/final_wer"
}

# score_parts SUFFIX: write decode/testSUFFIX/parts, lines `name %WER` for the dev set, each part of the test set and
# the whole of it, by sclite where that can be, and the last one's %WER line to decode/final_wer.
score_parts() {
  local part lmwt wip folder=$exp/decode/test$1 dev=$exp/decode/$tuning_set$1
  if [ "$decoder" = kaldi ] && [ -e "$exp/data/test/stm" ] && [ -e "$exp/data/test/glm" ] && has_sclite; then
    read -r lmwt wip < "$folder/weights"
    "$kaldi_scripts/score_sclite.sh" --lmwt "$lmwt" --wip "$wip" --sets "$test_parts" \
      --model "$model_dir/final.mdl" "${sclite_options[@]}" "$exp/data/test" "$graph_dir" "$folder" > "$folder/sclite"
    awk -v total="$total_name" 'NF == 6 && $6 ~ /^[0-9.]+$/ { print $1 == "total" ? total : $1, $6 }' \
      "$folder/sclite" > "$folder/parts"
    tail -n 1 "$folder/sclite" > "$exp/decode/final_wer"
  else
    for part in $test_parts; do
      awk -v beginning="${part#*=}" 'index($1, beginning) == 1' "$exp/data/test/text" > "$folder/text.part"
      if [ -s "$folder/text.part" ]; then
        acoustic score "$folder/text.part" "$folder/text" 2> "$folder/score.log" | wer_of "${part%%=*}"
      fi
    done > "$folder/parts"
    rm -f "$folder/text.part"
    wer_of "$total_name" < "$folder/wer" >> "$folder/parts"
    grep '^%WER' "$folder/wer" > "$exp/decode/final_wer"
  fi
  [ -z "$dev_set" ] || wer_of "$dev_set" < "$dev/wer" >> "$folder/parts"
}

# wer_of NAME: from scoring's output on standard input, a line `NAME %WER`.
wer_of() {
  awk -v name="$1" '/^%WER/ { print name, $2; exit }'
}

# has_sclite: whether scripts/score_sclite.sh would find NIST's scorer.
has_sclite() {
  command -v hubscr.pl > /dev/null || [ -x "${KALDI_ROOT:-}/tools/sctk/bin/hubscr.pl" ] || [ -x /usr/lib/sctk/bin/hubscr.pl ]
}
