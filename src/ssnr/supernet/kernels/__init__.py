"""Steps of a supernet, forward and backward, on many architectures at once."""
