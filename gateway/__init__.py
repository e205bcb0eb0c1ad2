"""The gateway: holds the links of crawlers, publishes what they report, and hands their orders over."""
