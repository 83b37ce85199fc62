# Removes a file or link, an empty folder, or a whole folder of kubepki's own. Nothing there is fine.
take path
take kind

absent() {
  fine
}

named_place "$path" name
[ -e "./$name" ] || [ -L "./$name" ] || fine
at "$kind"
case $kind in
file)
  rm -f "./$name" || exit 1
  ;;
folder)
  [ -d "./$name" ] && [ ! -L "./$name" ] || fine
  complaint=$(rmdir "./$name" 2>&1) || case $complaint in
  *'not empty'* | *'File exists'* | *'Not a directory'* | *'No such file'* | *busy*) fine ;;
  *)
    printf '%s\n' "$complaint" >&2
    exit 1
    ;;
  esac
  ;;
tree)
  rm -rf "./$name" || exit 1
  ;;
esac
at settle
settle .
fine
