"""`python -m stream_classifier` is the installed command."""

from stream_classifier.cli import main

main()
