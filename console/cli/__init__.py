"""What the commands have in common, and the small ones."""
