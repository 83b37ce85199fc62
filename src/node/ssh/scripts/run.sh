# Runs a command that restarts something. What it says goes to standard error, and its own input is empty.
take command
at run
# An operator's command finds what it would find after a login.
PATH=${login_path:+$login_path:}$PATH
# A file, because a service that goes on in the background would hold a pipe open.
said=$(mktemp 2>/dev/null) || said=
trap '[ -z "$said" ] || rm -f "$said"' EXIT
( eval "$command" ) </dev/null >"${said:-/dev/null}" 2>&1
status=$?
if [ "$status" != 0 ]; then
  [ -z "$said" ] || tail -n 3 "$said" >&2
  stop because "exit status: $status"
fi
fine
