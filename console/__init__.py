"""What a person runs: the `crawlyard` command, the demo and the embedded services."""
