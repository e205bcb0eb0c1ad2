"""Events for the web app: written with each commit, read by cursor, followed, and trimmed."""
