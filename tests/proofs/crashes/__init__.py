"""Each task killed at each of its statements, and delivered again."""
