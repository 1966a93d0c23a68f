"""Run by alembic: takes the steps on the connection that `chatkit.store.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
# The transaction is the caller's: either every step is taken or none.
context.run_migrations()
