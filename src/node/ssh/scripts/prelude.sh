# Opens every script: a predictable shell, how data comes in and how answers go out.
# Data comes on standard input only, one value a line, in the %b notation of printf.
LC_ALL=C TZ=UTC0
login_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin:/run/current-system/sw/bin
export LC_ALL TZ PATH
unset CDPATH POSIXLY_CORRECT
umask 077
nl='
'

# Reads one value into the variable $1. `read` takes byte by byte, so nothing of what follows is lost.
take() {
  IFS= read -r value || exit 3
  case $value in
  *\\*)
    value=$(printf '%b.' "$value")
    value=${value%.}
    ;;
  esac
  eval "$1=\$value"
}

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

# Whatever the login shell printed before this line is not ours.
take nonce
printf '\nkubepki %s\n' "$nonce"
