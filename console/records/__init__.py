"""What is on record, looked through: errors one by one and in groups, rejected messages."""
