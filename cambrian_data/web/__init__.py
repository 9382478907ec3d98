"""The web: polite, cached, guarded requests. See `http.HttpClient`."""
