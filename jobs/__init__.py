"""What a job is, and how it trains. Knows no database and no broker."""
