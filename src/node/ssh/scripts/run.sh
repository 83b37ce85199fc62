# Runs a command that restarts something. What it says goes to standard error, and its own input is empty.
take command
at run
# A file, because a service that goes on in the background would hold a pipe open.
if ! file=$(mktemp 2>/dev/null); then
  file=/dev/null
fi
trap 'rm -f "$file"' EXIT
( eval "$command" ) </dev/null >"$file" 2>&1
status=$?
if [ "$status" != 0 ]; then
  [ "$file" = /dev/null ] || tail -n 3 "$file" >&2
  stop because "exit status: $status"
fi
fine
