"""A demo of a small fleet at work for a minute, on real servers, with an audit at the end."""
