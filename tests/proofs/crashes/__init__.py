"""Each task is killed at each of its statements, and its message delivered again."""
