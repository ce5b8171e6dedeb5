"""The gateway: the same classifier for whoever speaks HTTP. The only room that knows FastAPI and uvicorn."""
