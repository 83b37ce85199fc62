# Tries everything out that could keep a file from being put at a path, and leaves no trace.
take how
take size
named_place "$path" "$how"
if [ "$how" = file ] || [ ! -L "./$name" ]; then
  judge_old
fi
judge_folder
if [ "$size" -gt 0 ] || [ -n "$followed" ]; then
  sweep
fi
create
replaces=
dress
at room
# Where room cannot be reserved nothing is known: the copies made before the first change show most shortages.
if command -v fallocate >/dev/null; then
  [ "$size" -gt 0 ] || size=1
  complaint=$(fallocate -l "$size" "$self" 2>&1) || case $complaint in
  *'not supported'* | *'not implemented'*) ;;
  *)
    printf '%s\n' "$complaint" >&2
    exit 1
    ;;
  esac
fi
fine
