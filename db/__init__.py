"""The only code that speaks SQLAlchemy. Rows never leave it: callers get frozen dataclasses."""
