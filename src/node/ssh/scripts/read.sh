# Reads many files and folders at once: names first, then the metadata of all of them, then the content of all regular
# ones in one stream, then their metadata again, so that whoever listens can tell whether anything moved meanwhile.
#
#   R QUERY there|gone LENGTH, path     one entry; L LENGTH, target before it when it is a link
#   N QUERY LENGTH, path                a folder that cannot be listed; Z QUERY LENGTH, path one that is too deep
#   S LENGTH, lines                     stat of those of the entries since the last S that are there
#   C yun…                              for each line of S: content follows, may not be read, is not wanted
#   T NONCE, lines, U NONCE             after the content: stat again of what was read
#
# Why an entry is not there stands on standard error, between two lines with the nonce.
take careful
take largest
take deepest
take queries
format='=%f %u %g %s %Y %d:%i %y'
entries=0 gone=

# Keeps an entry for the next flush. $1 path, $2 whether its content is wanted.
entry() {
  if [ -L "$1" ]; then
    target=$(readlink -n "$1" && printf .) && say L "${target%.}"
  fi
  if [ -e "$1" ]; then
    say "R $query there" "$1"
  else
    say "R $query gone" "$1"
    gone=yes
  fi
  eval "path$entries=\$1 wanted$entries=\$2"
  entries=$((entries + 1))
  [ "$entries" -lt "${careful:-200}" ] || flush
}

flush() {
  [ "$entries" -gt 0 ] || return 0
  index=0
  set --
  while [ "$index" -lt "$entries" ]; do
    eval "set -- \"\$@\" \"\$path$index\""
    index=$((index + 1))
  done
  [ -z "$gone" ] || printf '%s\n' "$nonce" >&2
  stats=$(stat -L -c "$format" "$@")
  [ -z "$gone" ] || printf '%s\n' "$nonce" >&2
  gone=
  say S "$stats"
  index=0 choice=
  set --
  set -f
  IFS=$nl
  for line in $stats; do
    # The entry that this line is about is the next one that is there.
    while [ "$index" -lt "$entries" ] && eval "[ ! -e \"\$path$index\" ]"; do
      index=$((index + 1))
    done
    [ "$index" -lt "$entries" ] || break
    eval "path=\$path$index wanted=\$wanted$index"
    index=$((index + 1))
    size=${line#* * * }
    size=${size%% *}
    case $line in
    =8???\ *) ;;
    *) wanted= ;;
    esac
    if [ -z "$wanted" ] || [ "$size" -gt "$largest" ]; then
      choice=${choice}n
    elif [ -r "$path" ]; then
      choice=${choice}y
      set -- "$@" "$path"
    else
      choice=${choice}u
    fi
  done
  unset IFS
  set +f
  entries=0
  printf 'C %s\n' "$choice"
  [ $# -gt 0 ] || return 0
  if [ -n "$careful" ]; then
    # One file, and nothing known about its length: in hexadecimal numbers up to the word.
    complaint=$({ od -A n -v -t x1 -N "$((largest + 1))" <"$1" >&3; } 2>&1)
    say E "$complaint"
    return 0
  fi
  cat "$@" 2>/dev/null
  printf '\nT %s\n' "$nonce"
  stat -L -c "$format" "$@"
  printf 'U %s\n' "$nonce"
}

# Whether a folder can be listed.
listable() {
  [ -r "$1" ] && [ -x "$1" ]
}

folder() {
  if [ ! -d "$1" ]; then
    entry "$1" ""
    return 0
  fi
  if ! listable "$1"; then
    say "N $query" "$1"
    return 0
  fi
  for file in "${1%/}"/* "${1%/}"/.[!.]* "${1%/}"/..?*; do
    if [ -e "$file" ] || [ -L "$file" ]; then
      entry "$file" ""
    fi
  done
}

tree() {
  entry "$1" yes
  [ -d "$1" ] || return 0
  # Folders still to be listed; loops of links are not entered here, whoever listens asks again for those.
  first=0 last=1
  folder0=$1 depth0=$2
  while [ "$first" -lt "$last" ]; do
    eval "inside=\$folder$first depth=\$depth$first"
    first=$((first + 1))
    if [ "$depth" -gt "$deepest" ]; then
      say "Z $query" "$inside"
      continue
    fi
    if ! listable "$inside"; then
      say "N $query" "$inside"
      continue
    fi
    for file in "${inside%/}"/* "${inside%/}"/.[!.]* "${inside%/}"/..?*; do
      [ -e "$file" ] || [ -L "$file" ] || continue
      case ${file##*/} in
      .kubepki | .kubepki-*.tmp) continue ;;
      esac
      if [ -d "$file" ] && [ ! -L "$file" ]; then
        eval "folder$last=\$file depth$last=$((depth + 1))"
        last=$((last + 1))
      fi
      entry "$file" yes
    done
  done
}

exec 3>&1
query=0
while [ "$query" -lt "$queries" ]; do
  take kind
  take path
  case $kind in
  file) entry "$path" yes ;;
  metadata) entry "$path" "" ;;
  folder) folder "$path" ;;
  tree)
    take start
    tree "$path" "$start"
    ;;
  esac
  query=$((query + 1))
done
flush
printf 'end %s\n' "$nonce"
