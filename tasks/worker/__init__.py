"""The worker process: transport, consumer, acknowledgement, lifecycle, liveness and logs."""
