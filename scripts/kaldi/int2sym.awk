# Replace integers by their symbols: awk -v first=2 -f int2sym.awk words.txt - (columns from `first` to `last`, which is
# the last one by default).
NR == FNR {
  symbol_of[$2] = $1
  next
}
{
  end = last ? last : NF
  for (i = first; i <= end; i++) {
    if (!($i in symbol_of)) {
      print "int2sym.awk: no symbol for " $i " in line: " $0 > "/dev/stderr"
      exit 1
    }
    $i = symbol_of[$i]
  }
  print
}
