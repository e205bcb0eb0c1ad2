"""What the gateway counts, for its operators."""
