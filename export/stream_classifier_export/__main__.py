"""`python -m stream_classifier_export`."""

from stream_classifier_export.cli import main

main()
