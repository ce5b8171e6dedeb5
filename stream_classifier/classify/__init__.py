"""The classify room: texts and labels in, classifications out. It knows nothing of Kafka and is usable as a library."""
