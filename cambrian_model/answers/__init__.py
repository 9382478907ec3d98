"""Questions put together and answers as they come."""
