"""Formatted text: read once from markdown or HTML, cut where it is too long, written in each platform's dialect."""
