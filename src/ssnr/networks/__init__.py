"""Any nn.Module as a function of its weights; nothing is left behind."""
