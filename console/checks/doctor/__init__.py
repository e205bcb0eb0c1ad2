"""What `crawlyard doctor` examines, a module for each thing."""
