"""dlc for PyTorch: compiled modules, and the backend of torch.compile."""
