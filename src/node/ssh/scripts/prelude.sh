# Opens every script: a predictable shell, and how answers go out.
LC_ALL=C TZ=UTC0
login_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin:/run/current-system/sw/bin
export LC_ALL TZ PATH
unset CDPATH POSIXLY_CORRECT
umask 077
nl='
'

# Answers with a word and a text of any bytes.
say() {
  printf '%s %s\n%s\n' "$1" "${#2}" "$2"
}

# Names the step that is about to be tried, for the case that it fails.
at() {
  printf 'at %s\n' "$1"
}

# Ends with an answer in words.
stop() {
  printf '%s\n' "$*"
  exit 1
}

because() {
  stop because "$@"
}

fine() {
  printf 'done\n'
  exit 0
}
