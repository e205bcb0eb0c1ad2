"""The frames of the wire protocols, and how a stream of bytes is split into them."""
