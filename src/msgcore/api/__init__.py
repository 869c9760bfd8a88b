"""The HTTP API: thin controllers over the services. `access` tells how one is written."""
