"""The bodies that callers send, and the command that each becomes; one file per subject."""
