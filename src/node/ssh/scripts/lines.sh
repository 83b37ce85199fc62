# How data comes in where standard input goes on after it: one value a line, in the %b notation of printf.

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
