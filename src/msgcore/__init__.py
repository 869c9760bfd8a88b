"""MsgCore: one API that sends and receives on every messaging platform."""

__version__ = "0.1.0"
