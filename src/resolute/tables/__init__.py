"""Run recipes into results; nothing here prints."""
