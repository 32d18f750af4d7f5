"""Kafka, spoken to so that no client default can lose or double a record."""
