"""What the lines share: servers, test data, drivers, figures."""
