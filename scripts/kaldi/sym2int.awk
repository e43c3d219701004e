# Replace the words of transcripts by integers: awk -v oov=3 -f sym2int.awk words.txt text. Words that words.txt lacks
# become the integer `oov`; how many is said at the end.
NR == FNR {
  id_of[$1] = $2
  next
}
{
  for (i = 2; i <= NF; i++) {
    if (!($i in id_of)) {
      num_unknown++
      $i = oov
    } else {
      $i = id_of[$i]
    }
    num_words++
  }
  print
}
END {
  printf "sym2int.awk: %d of %d words are not in the vocabulary\n", num_unknown, num_words > "/dev/stderr"
}
