"""Whether the web app's tables are as we need them: rules as data, the catalogue, and the statements that repair."""
