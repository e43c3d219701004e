# Drop from a ctm what the Hub5 rules neither reward nor punish, as Kaldi's Switchboard recipe does: noises, unknown
# words, hesitations (optional in the reference) and fragments of words. For `score_sclite.sh --ctm-filter`.
BEGIN {
  num_words = split("UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW <UNK> [NOISE] [LAUGHTER] [VOCALIZED-NOISE]", words)
  for (i = 1; i <= num_words; i++) {
    is_dropped[words[i]]
  }
}
!(toupper($5) in is_dropped) && $5 !~ /-$/
