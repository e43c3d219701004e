# Command lines of recipes, to be sourced: options as Kaldi users know them, and hydra overrides.

# die MESSAGE: end the recipe with status 2.
die() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

flag_names=() # options without a value, a recipe's own

# parse_options ARGUMENT...: `--name value` and `--name=value` set the variable `name`, which must stand in the array
# `option_names`; `--name` sets one that stands in `flag_names` to true; `key=value`, `+key=value` and `~key` go into the
# array `overrides`; --help prints the comment at the top of the recipe.
parse_options() {
  overrides=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --help | -h)
        sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      --*=*)
        ! is_flag "${1%%=*}" || die "${1%%=*} takes no value"
        set_option "${1%%=*}" "${1#*=}"
        shift
        ;;
      --*)
        if is_flag "$1"; then
          set_option "$1" true
          shift
          continue
        fi
        [ $# -ge 2 ] || die "$1 needs a value"
        set_option "$1" "$2"
        shift 2
        ;;
      *)
        take_argument "$1"
        shift
        ;;
    esac
  done
}

# take_argument ARGUMENT: what is no option must be a hydra override. A script with other arguments defines it anew.
take_argument() {
  case "$1" in
    *=* | "~"*) overrides+=("$1") ;;
    *) die "$1 is neither an option (--name value) nor an override (key=value); --help shows what there is" ;;
  esac
}

# is_flag --NAME: whether the option takes no value.
is_flag() {
  local name=${1#--}
  case " ${flag_names[*]} " in
    *" ${name//-/_} "*) return 0 ;;
    *) return 1 ;;
  esac
}

# set_option --NAME VALUE: give the variable of that name its value.
set_option() {
  local name=${1#--}
  name=${name//-/_}
  case " ${option_names[*]} ${flag_names[*]} " in
    *" $name "*) printf -v "$name" '%s' "$2" ;;
    *) die "no option $1; there are $(printf -- '--%s ' "${option_names[@]//_/-}" "${flag_names[@]//_/-}")" ;;
  esac
}

# run_stage NUMBER WHAT: say what comes and return 0 if the stage is among those asked for.
run_stage() {
  [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ] || return 1
  echo "stage $1: $2"
}

# need_files FILE...: end with an error if one is missing.
need_files() {
  local file
  for file in "$@"; do
    [ -e "$file" ] || die "$file is missing: run the earlier stages (--stage 0)"
  done
}

# check_numbers NAME...: end with an error if one of these variables is not a whole number.
check_numbers() {
  local name
  for name in "$@"; do
    case "${!name}" in
      "" | *[!0-9]*) die "--${name//_/-} ${!name}: expected a whole number" ;;
    esac
  done
}
