"""Measurements of the shipped package: each module is one command; each figure in the docs names its own."""
