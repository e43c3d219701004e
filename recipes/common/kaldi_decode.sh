# Decoding and scoring with Kaldi's own programs, to be sourced by stages.sh.
#
# Lattices are made once; language-model weight (4 to 30) and insertion penalty (0, 0.5, 1) are chosen on dev, over
# dev's lattices, as Kaldi's score.sh would choose them on the set itself.

kaldi_programs="latgen-faster-mapped lattice-scale lattice-add-penalty lattice-best-path compute-wer"

# choose_decoder auto|kaldi|acoustic: print the decoder to use; auto takes Kaldi's programs if all are on PATH.
choose_decoder() {
  local program missing=
  for program in $kaldi_programs; do
    command -v "$program" > /dev/null || missing+=" $program"
  done
  case "$1" in
    acoustic) echo acoustic ;;
    kaldi) [ -z "$missing" ] && echo kaldi || die "--decoder kaldi: not on PATH:$missing" ;;
    auto) [ -z "$missing" ] && echo kaldi || echo acoustic ;;
    *) die "--decoder $1: choose auto, kaldi or acoustic" ;;
  esac
}

# kaldi_lattices SET: decode into decode/SET/lat.N.gz, in as many processes as there are jobs.
kaldi_lattices() {
  local folder=$exp/decode/$1 job pids=() pid
  rm -f "$folder"/lat.*.gz
  for job in $(seq "$num_jobs"); do
    awk -v job="$job" -v jobs="$num_jobs" 'NR % jobs == job % jobs' "$folder/loglikes.scp" > "$folder/loglikes.$job.scp"
    [ -s "$folder/loglikes.$job.scp" ] || continue
    latgen-faster-mapped --acoustic-scale=0.1 --beam=13 --lattice-beam=8 --max-active=7000 --min-active=200 \
      --allow-partial=true --word-symbol-table="$graph_dir/words.txt" "$model_dir/final.mdl" "$graph_dir/HCLG.fst" \
      "scp:$folder/loglikes.$job.scp" "ark:|gzip -c > '$folder/lat.$job.gz'" 2> "$folder/latgen.$job.log" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || die "latgen-faster-mapped failed: see $folder/latgen.*.log"
  done
}

# kaldi_words SET WEIGHT PENALTY: print the best words of SET's lattices, as text.
kaldi_words() {
  local folder=$exp/decode/$1
  lattice-scale --inv-acoustic-scale="$2" "ark:gunzip -c '$folder'/lat.*.gz |" ark:- 2> "$folder/lattice_scale.log" |
    lattice-add-penalty --word-ins-penalty="$3" ark:- ark:- 2> "$folder/lattice_add_penalty.log" |
    lattice-best-path ark:- ark,t:- 2> "$folder/lattice_best_path.log" |
    awk 'NR == FNR { word[$2] = $1; next } { line = $1; for (i = 2; i <= NF; i++) line = line " " word[$i]; print line }' \
      "$graph_dir/words.txt" - | LC_ALL=C sort
}

# Choose on dev with Kaldi's lattices.
tune_with_kaldi() {
  local weight penalty errors best= best_weight= best_penalty= folder=$exp/decode/dev
  kaldi_lattices dev
  for weight in $(seq 4 30); do
    for penalty in 0 0.5 1; do
      kaldi_words dev "$weight" "$penalty" > "$folder/text.tuning"
      errors=$(kaldi_wer dev "$folder/text.tuning" | sed -n 's/^%WER.*\[ \([0-9]*\) \/.*/\1/p')
      if [ -z "$best" ] || [ "$errors" -lt "$best" ]; then
        best=$errors best_weight=$weight best_penalty=$penalty
      fi
    done
  done
  rm "$folder/text.tuning"
  echo "best on dev: language-model weight $best_weight, insertion penalty $best_penalty" >&2
  printf '{"decoder": "kaldi", "language_model_weight": %s, "insertion_penalty": %s}\n' "$best_weight" "$best_penalty" \
    > "$exp/decode/tuned.json.tmp"
  mv "$exp/decode/tuned.json.tmp" "$exp/decode/tuned.json"
}

# decode_with_kaldi SET: write decode/SET/text.
decode_with_kaldi() {
  local weight penalty pattern='.*"language_model_weight": \([0-9]*\), "insertion_penalty": \([0-9.]*\).*'
  read -r weight penalty < <(sed -n "s/$pattern/\1 \2/p" "$exp/decode/tuned.json") ||
    die "$exp/decode/tuned.json is not of Kaldi's decoder: run stage 9"
  # dev's lattices were made for the tuning.
  [ "$1" = dev ] || kaldi_lattices "$1"
  kaldi_words "$1" "$weight" "$penalty" > "$exp/decode/$1/text.tmp"
  mv "$exp/decode/$1/text.tmp" "$exp/decode/$1/text"
}

# kaldi_wer SET TEXT: compute-wer's lines.
kaldi_wer() {
  compute-wer --text --mode=present "ark:$exp/data/$1/text" "ark:$2" 2> "$exp/decode/$1/compute_wer.log"
}

# score_with_kaldi SET: the word error rate.
score_with_kaldi() {
  kaldi_wer "$1" "$exp/decode/$1/text"
}
