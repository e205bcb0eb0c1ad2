"""Reports: what crawlers say, coalesced into messages and published until it is handled."""
