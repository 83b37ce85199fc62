# Takes a lock, says so, and holds it until standard input ends or falls silent for too long. The lock is flock(2) on
# the file, which the kernel gives back when this process dies, however it dies; where the machine has no flock
# program, it is a folder with the same name.
take parent
take name
take text
take patience
mode=700
wanted=$name
at make
place "$parent" folder
at lock
made=0
name=$wanted

foreign() {
  stop foreign "$@"
}

held() {
  at held
  say held "$(dd if="$1" bs=65536 count=1 2>/dev/null)"
  exit 1
}

# Beats come as lines. Silence means that nobody is there, although the connection may not know it yet.
hold() {
  # Whoever wants to break the lock ends this process: at once, not at the next beat.
  trap - INT TERM HUP
  printf 'locked %s\n' "$$"
  while :; do
    if command -v timeout >/dev/null; then
      timeout "$patience" sh -c 'read -r beat' 9>&- || break
    else
      read -r beat || break
    fi
  done
}

by_file() {
  attempts=0
  while :; do
    attempts=$((attempts + 1))
    [ "$attempts" -le 100 ] || because resource busy
    [ ! -L "./$name" ] || foreign it is a symbolic link
    [ ! -d "./$name" ] || held "./$name/owner"
    if [ -e "./$name" ]; then
      [ -f "./$name" ] || foreign it is not a regular file
      theirs=$(stat -c %u "./$name" 2>/dev/null) || continue
      mine "$theirs" || foreign it belongs to user "$theirs"
    fi
    at lock
    exec 9<>"./$name"
    flock -n 9
    case $? in
    0) ;;
    1) held "./$name" ;;
    *) exit 1 ;;
    esac
    # Whoever gives a lock back removes the file: is it still the one with that name?
    [ -e /proc/self/fd/9 ] || break
    ours=$(stat -L -c %d:%i /proc/self/fd/9)
    [ "$(stat -c %d:%i "./$name" 2>/dev/null)" != "$ours" ] || break
  done
  printf '%s,"holder":%s}\n' "${text%?}" "$$" >"./$name"
  hold
  if IFS= read -r there <"./$name" && [ "$there" = "${text%?},\"holder\":$$}" ]; then
    rm -f "./$name"
  fi
}

# Process, its start and the boot of the machine: the three that name a process for ever. Without /proc the process has
# to do.
identity() {
  identity="$1 0 0"
  if [ ! -e /proc/self/stat ]; then
    kill -0 "$1" 2>/dev/null
    return
  fi
  read -r boot </proc/sys/kernel/random/boot_id && read -r start <"/proc/$1/stat" || return 1
  start=${start##*) }
  set -- "$1" $start
  identity="$1 ${21} $boot"
}

by_folder() {
  attempts=0
  until mkdir "./$name" 2>/dev/null; do
    attempts=$((attempts + 1))
    [ "$attempts" -le 100 ] || because resource busy
    [ ! -L "./$name" ] || foreign it is a symbolic link
    if [ ! -d "./$name" ]; then
      [ ! -e "./$name" ] || held "./$name"
      # It was removed just now, or cannot be made at all.
      at lock
      mkdir "./$name" && break
      exit 1
    fi
    theirs=$(stat -c %u "./$name" 2>/dev/null) || continue
    mine "$theirs" || foreign it belongs to user "$theirs"
    known=
    [ ! -e "./$name/holder" ] || read -r known <"./$name/holder"
    if [ -n "$known" ]; then
      if identity "${known%% *}" 2>/dev/null && [ "$identity" = "$known" ]; then
        held "./$name/owner"
      fi
    else
      # Made a moment ago, or by one that died at once.
      born=$(stat -c %Y "./$name" 2>/dev/null) || continue
      [ "$(date +%s)" -gt $((born + 60)) ] || held "./$name/owner"
    fi
    # The holder is gone. Of several that see this one gets the folder out of the way.
    mv -T "./$name" "./$name.$$" 2>/dev/null || continue
    gone=
    [ ! -e "./$name.$$/holder" ] || read -r gone <"./$name.$$/holder"
    if [ "$gone" != "$known" ]; then
      mv -T "./$name.$$" "./$name"
      continue
    fi
    rm -rf "./$name.$$"
  done
  identity $$
  printf '%s\n' "$identity" >"./$name/holder"
  printf '%s,"holder":%s}\n' "${text%?}" "$$" >"./$name/owner"
  hold
  if read -r known <"./$name/holder" && [ "$known" = "$identity" ]; then
    rm -rf "./$name"
  fi
}

if command -v flock >/dev/null; then
  by_file
else
  by_folder
fi
printf 'released\n'
