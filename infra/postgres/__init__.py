"""PostgreSQL as the ledger's store: tables, the library's recorder as we need it, sessions and batches."""
