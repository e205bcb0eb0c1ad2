"""How it stands: `crawlyard status`, `health` and `doctor`."""
