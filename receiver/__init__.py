"""The receiver: everything between a provider's socket and the committed row. It knows nothing of handlers."""
