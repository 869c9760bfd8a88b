"""The composition root: builds every part of a gateway from the settings. Nothing else does."""

from msgcore.app.gateway import Gateway

__all__ = ["Gateway"]
