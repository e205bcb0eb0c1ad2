"""Jobs and their queue: rows of the web app's table, their entries, and what waits outside of the queue."""
