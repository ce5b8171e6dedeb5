"""The model room: bundles on disk, their tokenizer, their ONNX session. The only room that knows ONNX Runtime."""
