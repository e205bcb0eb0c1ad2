"""What the lines run on: servers, worlds, drivers, figures."""
