"""Lines that measure throughput."""
