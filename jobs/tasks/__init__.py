"""One file per task: its data and its model. Imported only where it trains."""
