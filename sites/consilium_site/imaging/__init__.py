"""Reads BraTS-named, co-registered, skull-stripped cases: catalogue, checks, preparation, cache."""
