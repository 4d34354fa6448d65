"""The yard with a million jobs in its database: submit, read, claim."""
