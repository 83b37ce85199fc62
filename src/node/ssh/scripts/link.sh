# Makes a symbolic link, replacing what is there in one rename.
take path
take target
take temporary
named_place "$path" name
at link
trap 'rm -f "./$temporary"' EXIT
ln -s -- "$target" "./$temporary" || exit 1
mv -fT "./$temporary" "./$name" || exit 1
trap - EXIT
at settle
settle .
fine
