# From times in utterances to times in recordings: awk -f ctm.awk reco2file_and_channel segments - reads lines
# `utterance 1 begin duration word` and prints `file channel begin duration word`, as sclite wants them.
FILENAME == ARGV[1] {
  file_of[$1] = $2
  channel_of[$1] = $3
  next
}
FILENAME == ARGV[2] {
  recording_of[$1] = $2
  begin_of[$1] = $3
  next
}
{
  recording = recording_of[$1]
  if (!(recording in file_of)) {
    print "ctm.awk: no segment or file for utterance " $1 " (recording '" recording "')" > "/dev/stderr"
    exit 1
  }
  printf "%s %s %.2f %.2f %s\n", file_of[recording], channel_of[recording], $3 + begin_of[$1], $4, $5
}
