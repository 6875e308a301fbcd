"""The shipped data: how it is generated, read and labelled. Needs no torch."""
