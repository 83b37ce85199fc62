# Finds the folder that holds a path and goes there, judging every symbolic link on the way: a link is followed only
# when it belongs to root or to whoever runs this. Everything after that uses names in the current folder, so no later
# change of the path can lead it elsewhere.
trap '' PIPE HUP
trap 'exit 1' INT TERM

# Whether files of user $1 are as good as one's own.
mine() {
  [ "$1" = 0 ] || [ "$1" = "${uid:=$(id -u)}" ]
}

# Drops slashes and dots that mean nothing from the start of $ahead.
strip() {
  while :; do
    case $ahead in
    /*) ahead=${ahead#/} ;;
    ./*) ahead=${ahead#./} ;;
    .) ahead= ;;
    *) break ;;
    esac
  done
}

# A folder on the way is not there. Scripts that make it, or do not mind, have their own.
absent() {
  stop missing
}

# Enters the folder $name. It is no link: should it become one meanwhile, the kernel's own answer tells.
enter() {
  if [ ! -d "./$name" ]; then
    if [ -e "./$name" ]; then
      say nofolder "$here/$name"
      exit 1
    fi
    absent
  fi
  cd -P "./$name" 2>/dev/null || because permission denied
  here=$here/$name
  [ "$PWD" = "$here" ] || because the folder was moved meanwhile
}

# Continues with what the link $name says.
follow() {
  before=$(stat -c '%u %d %i %s %z' "./$name") || exit 1
  if ! mine "${before%% *}"; then
    say "foreign-link ${before%% *}" "$here/$name"
    exit 1
  fi
  target=$(readlink -n "./$name" && printf .) || exit 1
  target=${target%.}
  [ "$(stat -c '%u %d %i %s %z' "./$name")" = "$before" ] || because the link was changed meanwhile
  links=$((links + 1))
  [ "$links" -le 40 ] || because too many levels of symbolic links
  case $target in
  /*)
    cd -P /
    here=
    ;;
  esac
  ahead=$target/$ahead
  strip
}

# place PATH HOW: goes to the folder that holds PATH; $name is its name there, empty when PATH names no file.
# HOW: name (the last component is not followed), file (it is), folder (it is entered too).
place() {
  ahead=$1 how=$2 here= name= links=0 followed=
  cd -P /
  strip
  while [ -n "$ahead" ]; do
    name=${ahead%%/*}
    case $ahead in
    */*) ahead=${ahead#*/} ;;
    *) ahead= ;;
    esac
    strip
    if [ "$name" = .. ]; then
      cd -P .. || exit 1
      here=${here%/*}
      [ "$PWD" = "${here:-/}" ] || because the folder was moved meanwhile
      name=
      continue
    fi
    if [ -z "$ahead" ] && [ "$how" = name ]; then
      return 0
    fi
    if [ -L "./$name" ]; then
      [ -n "$ahead" ] || followed=yes
      follow
      name=
      continue
    fi
    if [ -z "$ahead" ] && [ "$how" = file ]; then
      return 0
    fi
    enter
    name=
  done
}

# The same, where there must be a name.
named_place() {
  place "$@"
  [ -n "$name" ] || stop nofile
}

# Makes a change of names in a folder, or a file's content, survive a power cut.
settle() {
  complaint=$(sync "$1" 2>&1) && return 0
  case $complaint in
  # Some network and user-space file systems cannot flush a folder, and do not need to.
  *'Invalid argument'* | *'not supported'*) return 0 ;;
  esac
  printf '%s\n' "$complaint" >&2
  exit 1
}

# Reads the locks that must still be held: number, then file and token of each.
take locks
while [ "$locks" -gt 0 ]; do
  locks=$((locks - 1))
  take lock
  take token
  [ ! -d "$lock" ] || lock=$lock/owner
  holder=
  [ ! -e "$lock" ] || IFS= read -r holder <"$lock"
  case $holder in
  *"$token"*) ;;
  *) stop lock-lost ;;
  esac
done
