"""What a process exposes to Prometheus, read by Prometheus's own parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from servers.patience import PATIENCE


class Exposition:
    """One answer of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}

    def samples(self) -> Iterator[Sample]:
        """All of its samples."""
        for family in self.families.values():
            yield from family.samples

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        return sum(
            sample.value for sample in self.samples() if sample.name == name and labels.items() <= sample.labels.items()
        )

    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        """What identifies each sample."""
        return {(sample.name, tuple(sorted(sample.labels.items()))) for sample in self.samples()}


def scrape(url: str, token: str | None = None) -> Exposition:
    """Ask a server for its metrics. Raises HTTPError for an error status."""
    request = urllib.request.Request(f"{url}/metrics")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers
        return Exposition(answer.read().decode())
