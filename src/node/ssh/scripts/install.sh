# Puts content at a path: temporary file in the same folder, owner and mode while it is empty, content, flush, rename,
# flush. The content is the rest of standard input, or a file of this machine.
take length
take digest
take source
take largest

if [ -n "$source" ]; then
  [ -e "$source" ] || stop source it is not there
  [ ! -d "$source" ] || stop source it is a folder
  [ -f "$source" ] || stop source not a regular file
  [ -r "$source" ] || stop source permission denied
  length=$(stat -L -c %s "$source") || exit 1
  [ "$length" -le "$largest" ] || stop source "too large to be a certificate or key: $length bytes"
  digest=$(sha256sum <"$source") || exit 1
  digest=${digest%% *}
fi

named_place "$path" file
judge_old
judge_folder
create
dress

at content
if [ -n "$source" ]; then
  cat "$source" >&9 || exit 1
else
  cat >&9 || exit 1
fi
# A connection that breaks looks like the end of the data.
[ "$(stat -L -c %s "$self")" = "$length" ] || stop torn
found=$(sha256sum <"$self") || exit 1
[ "${found%% *}" = "$digest" ] || stop torn
settle "$self"

at rename
mv -fT "./$temporary" "./$name" || exit 1
trap - EXIT
at settle
settle .
fine
