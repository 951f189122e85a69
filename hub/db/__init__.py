"""The database: the one room that knows SQLAlchemy. SQLite embedded, PostgreSQL beyond one machine."""
