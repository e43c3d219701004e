# For the scripts that run Kaldi's programs, to be sourced: options, programs, parts of a data directory, parallel jobs.

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=recipes/common/options.sh
. "$root/recipes/common/options.sh"

# Options that several scripts have.
cmd=local                # launcher of jobs: local, or run.pl, "slurm.pl --mem 4G", queue.pl, ...
nj=4                     # number of jobs
prior_scale=1.0          # factor on the log priors
device=auto              # of the network: cpu, cuda
model=                   # final.mdl, when it is not where it is looked for
fmllr=                   # fMLLR transforms, a directory or rspecifier, for a network that applies them
loglikes=                # rspecifier of loglikes made beforehand, JOB standing for the number of the job
max_skip_fraction=0.05   # end with an error when more utterances are lost

# What Kaldi's programs call their tables lies between `:` and white space: file names may hold only these.
readonly plain_name='^[A-Za-z0-9_./,:+=@%~-]+$'

arguments=()
take_argument() { arguments+=("$1"); }

# data_error MESSAGE: end the script with status 3: the data are at fault, not the command line.
data_error() {
  echo "$(basename "$0"): error: $*" >&2
  exit 3
}

note() { echo "$(basename "$0"): $*" >&2; }

# check_arguments NUMBER: end with an error unless there are so many arguments, all of them names Kaldi can handle.
check_arguments() {
  [ ${#arguments[@]} -eq "$1" ] || die "needs $1 arguments, got ${#arguments[@]}; --help shows them"
  check_names "$root" "${arguments[@]}"
}

# check_names FILE...: end with an error if a name would not survive a Kaldi table or a job script.
check_names() {
  local name
  for name in "$@"; do
    [[ $name =~ $plain_name ]] || die "'$name': names given to Kaldi must hold no white space or shell characters"
    case $name in
      *JOB* | *LMWT*) die "'$name': JOB and LMWT in names stand for the number of a job" ;;
    esac
  done
}

# check_integers OPTION...: end with an error unless the variable of each option holds a positive integer.
check_integers() {
  local name
  for name in "$@"; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "--${name//_/-} must be a positive integer, not '${!name}'"
  done
}

# check_numbers OPTION...: end with an error unless the variable of each option holds a decimal number.
check_numbers() {
  local name
  for name in "$@"; do
    [[ ${!name} =~ ^-?([0-9]+\.?[0-9]*|\.[0-9]+)$ ]] || die "--${name//_/-} must be a number, not '${!name}'"
  done
}

# check_files FILE...: end with an error naming the first that is missing.
check_files() {
  local file
  for file in "$@"; do
    [ -e "$file" ] || data_error "$file is missing"
  done
}

# find_programs NAME...: put Kaldi's folders on PATH if KALDI_ROOT says where they are; end with an error naming every
# program that is on neither.
find_programs() {
  local folder program missing=()
  if [ -n "${KALDI_ROOT:-}" ]; then
    for folder in "$KALDI_ROOT"/src/*bin; do
      PATH=$folder:$PATH
    done
    export PATH
  fi
  for program in "$@"; do
    command -v "$program" > /dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] || die "not found: ${missing[*]}. These are programs of Kaldi, looked for in PATH and in" \
    "KALDI_ROOT/src/*bin (KALDI_ROOT is ${KALDI_ROOT:-not set}). Build Kaldi (kaldi-asr.org; 'make' in folder src)," \
    "then set KALDI_ROOT to its folder. Without Kaldi: acoustic decode, acoustic align, acoustic score"
}

# find_model EXP_DIR [DIR]: unless --model names it, set `model` to the final.mdl in DIR or, failing that, in the
# alignments that the network was trained on.
find_model() {
  local candidate candidates=()
  [ -z "$model" ] || return 0
  candidates=(${2:+"$2/final.mdl"})
  if [ -f "$1/config.yaml" ]; then
    candidates+=("$(trained_ali_dir "$1/config.yaml")/final.mdl")
  fi
  for candidate in "${candidates[@]}"; do
    if [ -f "$candidate" ]; then
      model=$candidate
      return
    fi
  done
  data_error "no final.mdl: looked for ${candidates[*]:-train.ali_dir in $1/config.yaml}; say where it is by an option"
}

# trained_ali_dir CONFIG: the first train.ali_dir of a resolved config.yaml.
trained_ali_dir() {
  awk '/^[^ ]/ { section = $1; field = "" }
    section == "train:" && /^  [^ -]/ { field = $1 }
    section == "train:" && field == "ali_dir:" && /^  - / { print $2; exit }' "$1"
}

# find_acoustic: set `acoustic` to the command of this project: the one on PATH, else that of this checkout.
find_acoustic() {
  acoustic=$(command -v acoustic) || acoustic=$root/.venv/bin/acoustic
  [ -x "$acoustic" ] || die "not found: acoustic. Run scripts/install.sh, or activate the environment that holds it"
}

# make_work DIR: set `work` to a new folder in DIR, which this run alone writes to and which goes when the script ends.
# What is left of a killed run goes now; it can spoil nothing, even if jobs of that run still write to it.
make_work() {
  rm -rf "$1"/.unfinished.*
  work=$1/.unfinished.$$
  mkdir "$work"
  trap 'rm -rf "$work"' EXIT
}

# start_output DIR: make DIR, the script's `output`, and take away its mark of completeness (num_jobs).
start_output() {
  output=$1
  mkdir -p "$output/log"
  rm -f "$output/num_jobs"
  make_work "$output"
}

# finish_output STEM: give the archives STEM.JOB.gz their final names, then write num_jobs, by which one knows that the
# output is complete.
finish_output() {
  rm -f "$output/$1".*.gz
  mv "$work/$1".*.gz "$output"
  echo "$nj" > "$work/num_jobs"
  mv "$work/num_jobs" "$output"
}

# find_archives DIR STEM REMEDY: set `archives` to DIR/STEM.1.gz ... of a complete directory.
find_archives() {
  local job num_jobs
  [ -f "$1/num_jobs" ] || data_error "$1 is not complete (it has no num_jobs): $3"
  num_jobs=$(cat "$1/num_jobs")
  [[ $num_jobs =~ ^[1-9][0-9]*$ ]] || data_error "$1/num_jobs must hold the number of jobs, not '$num_jobs'"
  archives=()
  for ((job = 1; job <= num_jobs; job++)); do
    archives+=("$1/$2.$job.gz")
  done
  check_files "${archives[@]}"
}

# check_sorted FILE: end with an error unless the lines are in C order of their first column, each of them once.
check_sorted() {
  LC_ALL=C sort -c -u -k1,1 "$1" || data_error "$1 is not sorted in the C locale (utils/fix_data_dir.sh mends that)"
}

# split_table FILE STEM: split the lines of a table, which must be sorted, into nj parts STEM.JOB of adjacent lines.
split_table() {
  local num_lines
  num_lines=$(wc -l < "$1")
  [ "$num_lines" -ge "$nj" ] || die "$1 has $num_lines lines, too few for $nj jobs: use --nj"
  check_sorted "$1"
  awk -v nj="$nj" -v num_lines="$num_lines" -v stem="$2" \
    '{ print > (stem "." (int((NR - 1) * nj / num_lines) + 1)) }' "$1"
}

# prepare_loglikes EXP_DIR DATA_DIR: set `loglikes_command`, which prints job JOB's part of the scaled likelihoods of
# DATA_DIR on its standard output: those of --loglikes where given, else computed by the network from features split by
# utterance. CMVN statistics are always those of whole speakers. The network must have been trained on alignments by the
# tree of `model`.
prepare_loglikes() {
  local exp_dir=$1 data_dir=$2 cmvn=$2/cmvn.scp num_threads=1
  if [ -n "$loglikes" ]; then
    case $nj,$loglikes in
      1,* | *,*JOB*) ;;
      *) die "--loglikes must name the part of each of $nj jobs by JOB, as ark:loglikes.JOB.ark does; or use --nj 1" ;;
    esac
    find_programs copy-feats
    loglikes_command=(copy-feats "$loglikes" ark:-)
    return
  fi
  find_acoustic
  check_files "$exp_dir" "$data_dir/feats.scp" "$data_dir/utt2spk"
  split_table "$data_dir/feats.scp" "$work/feats.scp"
  if [ -f "$cmvn" ]; then
    cmvn=scp:$cmvn
  else
    check_files "$data_dir/spk2utt"
    cmvn=ark:$work/cmvn.ark
    "$acoustic" cmvn "--spk2utt=ark:$data_dir/spk2utt" "scp:$data_dir/feats.scp" "$cmvn" 2> "$output/log/cmvn.log" ||
      data_error "no CMVN statistics: $(tail -n 1 "$output/log/cmvn.log")"
  fi
  if [ "$cmd" = local ] && [ "$(nproc)" -gt "$nj" ]; then
    num_threads=$(($(nproc) / nj))
  fi
  # The parts may lose what they like; check_done counts over the whole.
  loglikes_command=("$acoustic" loglikes "--prior-scale=$prior_scale" "--device=$device" "--num-threads=$num_threads"
    --max-skip-fraction=1 "--for-model=$model" "--cmvn=$cmvn" "--utt2spk=ark:$data_dir/utt2spk"
    ${fmllr:+"--fmllr=$fmllr"}
    "$exp_dir" "scp:$work/feats.scp.JOB" ark:-)
}

# check_done LOG PROGRAM DATA_DIR: end with an error if, by its last line in the logs of the jobs, the program lost more
# of the utterances of DATA_DIR than --max-skip-fraction.
check_done() {
  local logs num_done num_utts
  num_utts=$(wc -l < "$3/utt2spk")
  find_logs JOB=1:"$nj" "$1"
  num_done=$(sed -n "s/^LOG ($2.* Done \([0-9]*\).*/\1/p" "${logs[@]}" | awk '{ sum += $1 } END { print sum + 0 }')
  note "$2: done $num_done of $num_utts utterances"
  awk -v num_done="$num_done" -v num_utts="$num_utts" -v limit="$max_skip_fraction" \
    'BEGIN { exit num_done == 0 || num_utts - num_done > limit * num_utts }' ||
    data_error "$((num_utts - num_done)) of $num_utts utterances were lost, more than --max-skip-fraction" \
      "$max_skip_fraction; $1 says why"
}

# find_logs NAME=FIRST:LAST LOG: set `logs` to the log of each job.
find_logs() {
  local job numbers=${1#*=}
  logs=()
  for ((job = ${numbers%:*}; job <= ${numbers#*:}; job++)); do
    logs+=("${2//"${1%%=*}"/$job}")
  done
}

# run_jobs NAME=FIRST:LAST LOG WORD...: run the shell command made of the words once for every number from FIRST to
# LAST, which takes the place of NAME wherever that stands, through the launcher of --cmd (run.pl, slurm.pl, queue.pl:
# each is called just so) or here. A failing job ends the script, with the end of its log.
run_jobs() {
  local logs launcher=(run_here)
  if [ "$cmd" != local ]; then
    read -r -a launcher <<< "$cmd"
    command -v "${launcher[0]}" > /dev/null || die "--cmd: ${launcher[0]} is no program; leave --cmd out to run here"
  fi
  mkdir -p "$(dirname "$2")"
  find_logs "$1" "$2"
  rm -f "${logs[@]}" # a log of an earlier run must not pass for this one's
  "${launcher[@]}" "$@" || { show_failures; exit 1; }
}

# run_here NAME=FIRST:LAST LOG WORD...: what Kaldi's run.pl does, as many jobs at a time as there are cores.
run_here() {
  local name=${1%%=*} numbers=${1#*=} log=$2
  shift 2
  export -f run_logged
  seq "${numbers%:*}" "${numbers#*:}" |
    xargs -P "$(nproc)" -I "$name" bash -c 'run_logged "$@"' run_logged "$log" "$(quote_words "$@")"
}

# quote_words WORD...: one line of shell from words, by the rule of run.pl: words without white space are shell syntax.
quote_words() {
  local word line=
  for word in "$@"; do
    case $word in
      *[[:space:]]*\"* | *\"*[[:space:]]*) line+="'$word' " ;;
      *[[:space:]]* | '') line+="\"$word\" " ;;
      *) line+="$word " ;;
    esac
  done
  echo "$line"
}

# run_logged LOG LINE: run a line of shell with everything it prints in LOG, framed as run.pl frames it.
run_logged() {
  local status=0
  {
    printf '# %s\n# Started at %s\n#\n' "$2" "$(date)"
    bash -c "$2" || status=$?
    printf '# Ended (code %d) at %s, elapsed time %d seconds\n' "$status" "$(date)" "$SECONDS"
  } > "$1" 2>&1 < /dev/null
  [ "$status" -eq 0 ]
}

# show_failures: the ends of the first of `logs` whose jobs did not end well, by the last line that run.pl, or queue.pl
# and slurm.pl, write.
show_failures() {
  local log num_shown=0
  for log in "${logs[@]}"; do
    if grep -qsE '^# (Ended \(code 0\)|Finished at .* with status 0$)' "$log"; then
      continue
    fi
    note "a job failed, the end of $log:"
    tail -n 20 "$log" >&2 || true
    num_shown=$((num_shown + 1))
    [ "$num_shown" -lt 2 ] || break
  done
}
