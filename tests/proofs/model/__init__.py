"""A model of docs/contract.md, and the machine that checks the product against it."""
