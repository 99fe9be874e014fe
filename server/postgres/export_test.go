package postgres

// DatabaseURL returns where the tests find Postgres.
func DatabaseURL() string { return databaseURL }
