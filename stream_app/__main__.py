"""`python -m stream_app`: the command line, where the script is not on the path."""

from stream_app.cli import main

main()
