"""The APIs whose clients are answered: each reads its own requests and writes its own events, over one core."""
