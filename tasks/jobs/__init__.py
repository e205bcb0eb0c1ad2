"""Jobs: submitted, queued, cancelled, paused, retried."""
