"""Receiving: from a platform's request to an event that subscribers get.

`receiver` verifies a request, stores it as it came and answers; `reader` reads what was stored into
envelopes, messages and events, in order; `bus` tells those who wait for events that there are new ones.
"""
