"""Lines that measure latency, memory, and growth."""
