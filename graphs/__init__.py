"""Runnable agent graphs; the library never imports them."""
