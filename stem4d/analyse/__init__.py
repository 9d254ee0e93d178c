"""Analyses of recorded frames: each a `Method` of `stem4d.analyse.methods`, and what they share."""
