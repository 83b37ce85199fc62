complete --keep-order --exclusive --command kubepki --arguments "(KUBEPKI_COMPLETE=fish kubepki -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
