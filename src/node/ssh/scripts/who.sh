# Who runs scripts here.
printf 'uid %s\n' "$(id -u)"
fine
