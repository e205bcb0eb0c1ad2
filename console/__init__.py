"""What people run: the `crawlyard` command, the demo and the embedded servers."""
