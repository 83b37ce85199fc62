# What this machine says about itself. Built-in commands where there are some: a hundred nodes may be asked at once.
printf 'clock %s\n' "$(date +%s.%N)"
name=
[ ! -r /proc/sys/kernel/hostname ] || read -r name </proc/sys/kernel/hostname
say name "${name:-$(uname -n)}"
uid=
if [ -r /proc/self/status ]; then
  while read -r key _ effective _; do
    if [ "$key" = Uid: ]; then
      uid=$effective
      break
    fi
  done </proc/self/status
fi
uid=${uid:-$(id -u)}
printf 'uid %s\n' "$uid"
if command -v ip >/dev/null; then
  found=$(printf 'route get 192.0.2.1\nroute get 2001:db8::1\naddress show\n' | ip -force -o -batch - 2>/dev/null)
  case $found in
  *' inet'*) ;;
  *)
    # One that takes no list of commands.
    found=$(
      ip -o route get 192.0.2.1 2>/dev/null
      ip -o route get 2001:db8::1 2>/dev/null
      ip -o address show 2>/dev/null
    )
    ;;
  esac
  say network "$found"
else
  say trie "$(cat /proc/net/fib_trie 2>/dev/null)"
  say inet6 "$(cat /proc/net/if_inet6 2>/dev/null)"
fi
printf 'done\n'
