"""A day of a small fleet in a minute, on real servers, with an audit at the end."""
