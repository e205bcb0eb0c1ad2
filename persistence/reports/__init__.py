"""Read-only reports for operators. No task decides anything by them."""
