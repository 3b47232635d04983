"""One file per method; each joins a network, its losses and its matching."""
