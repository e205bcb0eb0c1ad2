"""The dialect of the platform's original crawler, translated into protocol 1."""
