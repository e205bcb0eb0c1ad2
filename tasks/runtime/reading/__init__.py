"""Reading a message: its body within bounds, its large items apart, and as much of a bad one as people can read."""
