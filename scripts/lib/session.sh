# shellcheck shell=bash
# An open session with a program such as psql: it is asked one statement after the other. Sourced, never run.

# open_session COMMAND... : starts the command with its input and output in the descriptors QUESTIONS and ANSWERS.
open_session() {
  # The command waits for a first line. Bash forgets a coprocess as soon as it has ended, also in the middle of a line that
  # reads from it, so its descriptors are moved into variables of our own first.
  coproc SESSION { read -r _ && exec "$@"; }
  exec {ANSWERS}<&"${SESSION[0]}"- {QUESTIONS}>&"${SESSION[1]}"-
  printf '\n' >&"$QUESTIONS"
}

# ask SQL : sends it to the open session and sets ANSWER to the lines that come back. Fails when the session has ended; its
# command has then printed why.
ask() {
  local line
  ANSWER=''
  { printf '%s\n\\echo :end:\n' "$1" >&"$QUESTIONS"; } 2>/dev/null || return 1
  while IFS= read -r line <&"$ANSWERS"; do
    [[ $line == :end: ]] && return
    ANSWER+=$line$'\n'
  done
  return 1
}

# The command reads the end of its input, and ends.
close_session() { exec {QUESTIONS}>&- {ANSWERS}<&-; }
