"""The handlers that ship with the inbox, and the examples to copy: one module a subject."""
