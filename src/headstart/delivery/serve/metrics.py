"""What the server counts, for Prometheus."""

import os
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # several processes keep their counts in files there, and each gives the sums

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of this process, or of all workers where there are several."""

    def __init__(self) -> None:
        # Without a time of birth for every count: half of the text, and of use to nobody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        here = self._registry
        self._requests = Counter("headstart_requests", "Requests answered.", ["path", "status"], registry=here)
        self._request_seconds = Histogram(
            "headstart_request_seconds", "From a request's header to the end of its answer.", ["path"],
            buckets=_SECONDS, registry=here,
        )  # fmt: skip
        self._pictures = Counter(
            "headstart_pictures", "Pictures, by what became of them: answered, strange (none of these), unreadable.",
            ["model", "outcome"], registry=here,
        )  # fmt: skip
        self._labels = Counter("headstart_labels", "Answers, by their label.", ["model", "label"], registry=here)
        self._stages = Histogram(
            "headstart_stage_seconds", "Of a picture in decode and wait, of a batch in network.", ["stage"],
            buckets=_SECONDS, registry=here,
        )  # fmt: skip
        self._batches = Histogram("headstart_batch_pictures", "Pictures in a batch.", buckets=_SIZES, registry=here)
        self._reloads = Counter("headstart_reloads", "Models loaded again.", ["model", "outcome"], registry=here)
        self._waiting = Gauge(
            "headstart_waiting_pictures", "Accepted, not answered yet.", multiprocess_mode="livesum", registry=here
        )
        self._held = Gauge("headstart_held_bytes", "Of requests under way.", multiprocess_mode="livesum", registry=here)
        if SHARED not in os.environ:
            ProcessCollector(registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request to `path`, one of the server's own or "other", was answered."""
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def picture(self, model: str, outcome: str, label: str | None) -> None:
        """A picture was answered, or could not be read."""
        self._pictures.labels(model, outcome).inc()
        if label is not None:
            self._labels.labels(model, label).inc()

    def seconds(self, stage: str, seconds: float) -> None:
        """What one stage took."""
        self._stages.labels(stage).observe(seconds)

    def batch(self, pictures: int, waits: Iterable[float]) -> None:
        """A batch was computed, whose pictures had waited so many seconds each."""
        self._batches.observe(pictures)
        for wait in waits:
            self._stages.labels("wait").observe(wait)

    def reload(self, model: str, outcome: str) -> None:
        """A model was loaded again, or could not be."""
        self._reloads.labels(model, outcome).inc()

    def under_way(self, pictures: int, held: int) -> None:
        """So many pictures wait now, and so many bytes are held."""
        self._waiting.set(pictures)
        self._held.set(held)

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
