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
# The kernel's tables of addresses and routes, as kubeadm reads them too.
printf 'tables\n'
cat /proc/net/route /proc/net/ipv6_route /proc/net/fib_trie /proc/net/if_inet6 2>/dev/null
printf '\ntables %s\n' "$nonce"
printf 'done\n'
