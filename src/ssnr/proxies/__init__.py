"""Proxies that are no sum over weights."""
