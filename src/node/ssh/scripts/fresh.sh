# What installing a file and rehearsing it have in common: who may be replaced, and a temporary file that is private,
# locked and dressed before anything is in it.
take path
take mode
take owner
take secret
take temporary

# Refuses to replace what is no file, and somebody else's file behind a link. $replaces says whether there is one.
judge_old() {
  replaces=
  [ -e "./$name" ] || [ -L "./$name" ] || return 0
  [ -f "./$name" ] && [ ! -L "./$name" ] || stop irregular
  replaces=yes
  [ -n "$followed" ] || return 0
  theirs=$(stat -c %u "./$name") || exit 1
  mine "$theirs" || stop foreign-file "$theirs"
}

# Refuses a private file where somebody else could exchange it.
judge_folder() {
  set -- $(stat -c '%a %u' .)
  folder_mode=$1 folder_owner=$2
  [ -n "$secret" ] || return 0
  case $folder_mode in
  [1357]???) ;;
  *[2367]) stop open-folder ;;
  esac
  [ "$folder_owner" = "${owner%%:*}" ] || mine "$folder_owner" || stop foreign-folder "$folder_owner"
}

# Creates the temporary file as descriptor 9; $self is its name for other programs.
create() {
  at create
  # Fails when the name is taken, and opens exactly what it created.
  set -C
  exec 9>"./$temporary"
  set +C
  trap 'rm -f "./$temporary"' EXIT
  # The open file itself: its name could be given to another one by whoever else may write here.
  self=/proc/self/fd/9
  if [ ! -e "$self" ]; then
    case $folder_mode in
    *[2367] | *[2367]?) because /proc is not mounted and others may write to the folder ;;
    esac
    mine "$folder_owner" || because /proc is not mounted and others may write to the folder
    self=./$temporary
  fi
  # A sign that somebody is writing it. A sweep that came in between took it for a left-over one.
  if command -v flock >/dev/null; then
    flock -n 9 || stop swept
  fi
  [ -e "./$temporary" ] || stop swept
}

# Owner, attributes of the file that is replaced, then mode: a change of owner clears mode bits, and the mode limits
# what an access list grants.
dress() {
  if [ -n "$owner" ]; then
    at owner
    chown "$owner" "$self" || exit 1
  fi
  if [ -n "$replaces" ]; then
    # As far as there are any.
    if [ -e /sys/fs/selinux/enforce ]; then
      chcon --reference="./$name" "$self" 2>/dev/null
    fi
    if command -v setfacl >/dev/null; then
      list=$(getfacl -cps "./$name" 2>/dev/null)
      [ -z "$list" ] || printf '%s\n' "$list" | setfacl --set-file=- "$self" 2>/dev/null
    fi
  fi
  at mode
  chmod "$mode" "$self" || exit 1
}
