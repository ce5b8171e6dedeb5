"""`make containers-check`: the image and docker-compose.yml, built and run for real."""
