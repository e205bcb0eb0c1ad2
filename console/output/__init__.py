"""What all commands print with: terminal, layout, URLs without passwords, exit codes."""
