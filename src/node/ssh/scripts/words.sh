# How data comes in where it is all of standard input, which has been read at once: byte by byte is slow. The values follow
# the script as parameters, in the %b notation of printf.
set +f
unset IFS
shift
taken=0
for value; do
  taken=$((taken + 1))
  eval "value$taken=\$value"
done
next=0

# Takes the next value into the variable $1.
take() {
  next=$((next + 1))
  [ "$next" -lt "$taken" ] || exit 3
  eval "value=\$value$next"
  case $value in
  *\\*)
    value=$(printf '%b.' "$value")
    value=${value%.}
    ;;
  esac
  eval "$1=\$value"
}
