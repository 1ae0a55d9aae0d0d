"""Rank neural networks before they are trained, by the signal-to-noise ratio of their saliency."""
