"""What keeps deliveries while the database is away, on this machine's disk, and brings them when it is back."""
