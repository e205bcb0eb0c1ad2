"""The worker process: transport, consumer, acknowledgements, lifecycle, liveness and logs."""
