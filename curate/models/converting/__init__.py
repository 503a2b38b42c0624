"""Turn weights of others (pickles, Keras, TorchScript) into safetensors, without running them."""
