"""The command line `darkroom`. Imports the other packages; none imports it."""
