"""The scheduler that any number of processes share, on Redis or Valkey (standalone, Sentinel or Cluster)."""

from msgcore.dispatch.redis.connection import RedisConnection
from msgcore.dispatch.redis.scheduler import RedisScheduler

__all__ = ["RedisConnection", "RedisScheduler"]
