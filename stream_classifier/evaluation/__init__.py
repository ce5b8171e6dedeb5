"""The evaluation room: how good the labels of a model and a label set are, and how to make their scores say so."""
