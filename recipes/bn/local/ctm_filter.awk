# Drop from a ctm what the Hub4 rules neither reward nor punish, as local/score_sclite.sh of egs/hub4_english/s5 does:
# noises, hesitations and fragments of words.
BEGIN {
  num_words = split("UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW <NOISE> <SPOKEN_NOISE>", words)
  for (i = 1; i <= num_words; i++) {
    is_dropped[words[i]]
  }
}
!(toupper($5) in is_dropped) && $5 !~ /-$/
