"""Lines that measure how many a second."""
