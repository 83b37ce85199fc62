# Removes left-over temporary files where a file or link of this path is written.
take path

absent() {
  exit 0
}

# An install writes beside the file a link leads to, a link beside the link itself.
(named_place "$path" name && sweep) || exit 1
(named_place "$path" file && if [ -n "$followed" ]; then sweep; fi) || exit 1
fine
