"""Run by Alembic: migrates over the connection it is handed, inside that connection's transaction."""

from alembic import context

from stream_app.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
