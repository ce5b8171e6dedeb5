"""The exporter: a model of PyTorch becomes a model bundle that the worker can run.

The worker never imports this package, nor PyTorch, nor transformers. The other way round, this package takes from the
worker what a bundle is and how ONNX Runtime is set up to run one, and nothing else.

A model goes through these files, in this order: `source` finds its files, `checkpoint` makes a PyTorch model of them
(`structbert` where ModelScope's names have to be mapped), `tokenizer` writes its tokenizer, `graph` exports it,
`rewriting` makes its graph faster, `quantising` gives it integer weights, `parity` compares it with the PyTorch model
after each of these, and `making` does all that and writes the bundle.
"""
