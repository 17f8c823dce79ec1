"""The HTTP server of `receiver run`: who may connect, what a request is, how long all may take (docs/http.md)."""
