"""How the nano models are trained: their tokenizer, data, network, optimizers and stages."""
