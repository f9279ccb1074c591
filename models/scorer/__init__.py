"""The Transformer: network, training, serving kernels and exact retrieval."""
