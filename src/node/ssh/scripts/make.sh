# Makes folders on the way instead of stopping where one is missing; what was made before a failure goes again.
made=0

unmake() {
  status=$?
  while [ "$made" -gt 0 ]; do
    made=$((made - 1))
    last=${here##*/}
    here=${here%/*}
    # Not empty any more: somebody else is at work there, so it is no longer ours to remove.
    cd -P .. && rmdir "./$last" 2>/dev/null || break
  done
  exit "$status"
}
trap unmake EXIT

absent() {
  at make
  if ! mkdir "./$name"; then
    # Somebody else may have been faster.
    [ -d "./$name" ] && [ ! -L "./$name" ] || exit 1
    return 0
  fi
  cd -P "./$name" || exit 1
  here=$here/$name
  made=$((made + 1))
  [ "$PWD" = "$here" ] || because the folder was moved meanwhile
  # The folder we are in, whatever its name may have become.
  chmod "$mode" . || exit 1
  settle .
  settle ..
  cd -P .. || exit 1
  here=${here%/*}
}
