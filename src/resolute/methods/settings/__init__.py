"""Settings of each method, without torch; one file per method."""
