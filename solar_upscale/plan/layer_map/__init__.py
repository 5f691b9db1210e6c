"""Which source layer each target layer comes from, for people: as text for a terminal, as SVG for a model page.

Everything here reads a pattern and returns text. The caller knows whether a terminal has colour.
"""
