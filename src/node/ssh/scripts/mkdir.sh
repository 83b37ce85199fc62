# Makes a folder and its missing parents.
take path
take mode
at make
place "$path" folder
made=0
fine
