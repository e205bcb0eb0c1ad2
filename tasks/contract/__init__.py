"""The public contract: payloads of the tasks, frames of the crawlers, and the bounds of their values."""
