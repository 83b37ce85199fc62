
set edit:completion:arg-completer[kubepki] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) KUBEPKI_COMPLETE="elvish" kubepki -- $@words) | to-lines
}

