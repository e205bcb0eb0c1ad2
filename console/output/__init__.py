"""What all commands print with: screen, layout, URLs without passwords, exit codes."""
