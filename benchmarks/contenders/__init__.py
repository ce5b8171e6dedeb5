"""Other ways to label a stream, each as its users would write it from its own documentation.

They run in an environment of their own, as some of them want other versions of the Kafka client, and know nothing of
stream_classifier. `model.py` is what they share: the same ONNX graph, called as users of ONNX Runtime call it.
"""
