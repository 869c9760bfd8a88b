"""Platforms: one folder each, with its declaration and its adapter."""
