"""Search over HTTP: the API, the audit log and the page."""
