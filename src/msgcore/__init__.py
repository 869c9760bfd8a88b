"""MsgCore: one API that sends on every messaging platform that it has an adapter for."""

__version__ = "0.1.0"
