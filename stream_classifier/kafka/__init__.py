"""The only room that speaks to Kafka: where events come from, where they go, and a real broker for development."""
