"""Proxies that are one number of a network, and no sum over its weights; one file per algorithm."""
