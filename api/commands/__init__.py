"""The routes that change an account; one file per subject, each route one command under its idempotency key."""
