# Removes the temporary files of the current folder that killed runs left. Those that somebody is writing are locked
# and stay.
sweep() {
  at sweep
  swept=
  for file in ./.kubepki-*.tmp; do
    if [ -L "$file" ]; then
      rm -f "$file" || exit 1
    elif [ ! -f "$file" ]; then
      continue
    elif command -v flock >/dev/null; then
      (flock -n 8 || exit 0; rm -f "$file") 8<"$file" || [ ! -e "$file" ] || exit 1
    else
      rm -f "$file" || exit 1
    fi
    swept=yes
  done
  [ -z "$swept" ] || settle .
}
