# Between what a machine says about itself and its files: whoever may not read them all says no more.
take only_as_root
[ -z "$only_as_root" ] || [ "$uid" = 0 ] || exit 0
