"""How Alembic runs our revisions: on the connection that `migrate` holds its lock with, one transaction each."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
