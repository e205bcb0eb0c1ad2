"""The public contract: the payloads of the tasks, the frames of the crawlers, and the bounds of values."""
