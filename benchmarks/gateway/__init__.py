"""The line of the gateway: one real process, real links, real workers."""
