"""Events for the web app: written with the commit, read by cursor."""
