"""Links: who is at the other end, which connection it speaks for, and what it may say next."""
