"""Measurements that the README's numbers come from; run them as modules from the repository's root."""
