"""What a gateway reads, asynchronously: orders, the rows of its links, handled messages, credentials."""
