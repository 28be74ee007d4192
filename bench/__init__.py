"""Repeatable benchmarks, each with the peers that it is compared to (``make help``)."""
