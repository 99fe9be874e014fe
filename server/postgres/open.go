package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sequin-go/sequin/server/internal/store"
)

// minVersion is that of Postgres 15.
const minVersion = 150000

// poolConfig reads the URL.
func poolConfig(url string, o *Options) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The text of the library has no password, but it may have a line break.
		return nil, fmt.Errorf("the URL of Postgres is not valid: %s; it looks like postgres://USER@HOST:5432/DATABASE", oneLine(err))
	}
	switch {
	case o.MaxConns != 0:
		cfg.MaxConns = int32(o.MaxConns)
	case !strings.Contains(url, "pool_max_conns"):
		cfg.MaxConns = defaultConns
	}
	if cfg.MaxConns < 2 {
		return nil, fmt.Errorf("the store needs at least 2 connections, not %d: set MaxConns or pool_max_conns", cfg.MaxConns)
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "sequin"
	return cfg, nil
}

// prepare checks that the database can be used, migrates it, and returns the id of the store.
func prepare(ctx context.Context, cfg *pgxpool.Config, o *Options) (id string, err error) {
	conn, err := connectOnce(ctx, cfg)
	if err != nil {
		return "", openFailed(cfg.ConnConfig, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := usePooler(ctx, conn, cfg, o); err != nil {
		return "", openFailed(cfg.ConnConfig, err)
	}
	if err := checkServer(ctx, conn, int(cfg.MaxConns)); err != nil {
		return "", openFailed(cfg.ConnConfig, err)
	}
	if err := migrate(ctx, conn, o.Schema); err != nil {
		return "", openFailed(cfg.ConnConfig, err)
	}
	err = conn.QueryRow(ctx, "select id::text from "+pgx.Identifier{o.Schema}.Sanitize()+".store").Scan(&id)
	if err != nil {
		return "", openFailed(cfg.ConnConfig, err)
	}
	return id, nil
}

// An advice is an error of opening that says all by itself.
type advice struct{ text string }

func (a advice) Error() string { return a.text }

func checkServer(ctx context.Context, conn *pgx.Conn, maxConns int) error {
	var version, allowed int
	var standby bool
	var readable string
	err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'),
		pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool,
		`+allowedConnectionsSQL,
	).Scan(&version, &readable, &standby, &allowed)
	if err != nil {
		return err
	}
	return serverAdvice(version, readable, standby, allowed, maxConns)
}

func serverAdvice(version int, readable string, standby bool, allowed, maxConns int) error {
	switch {
	case version < minVersion:
		return advice{fmt.Sprintf("it is Postgres %s, and the store needs 15 or newer: upgrade it", readable)}
	case standby:
		return advice{"it is a standby or read-only: use the URL of the primary"}
	case allowed < maxConns+1:
		return advice{fmt.Sprintf("it allows %d connections, and this replica uses up to %d: raise max_connections or the role's limit, or lower MaxConns (pool_max_conns in the URL)", allowed, maxConns+1)}
	}
	return nil
}

// openFailed says what to do about an error of opening. Its text is one line without the password.
func openFailed(cfg *pgx.ConnConfig, err error) error {
	where := describe(cfg)
	var version *store.VersionError
	var said advice
	if errors.As(err, &version) {
		return fmt.Errorf("cannot use %s: %w: upgrade this program", where, err)
	}
	if errors.As(err, &said) {
		return fmt.Errorf("cannot use %s: %w", where, err)
	}
	text := oneLine(err) + adviceFor(err)
	var connect *pgconn.ConnectError
	var refused *pgconn.PgError
	if errors.As(err, &connect) && !errors.As(err, &refused) {
		err = errors.Join(ErrUnreachable, err)
	}
	return fmt.Errorf("cannot use %s: %w", where, &lineError{text, err})
}

// ErrUnreachable means that there is no connection to the database: nothing listens at its address, or the network fails.
// Errors of opening wrap it.
var ErrUnreachable = errors.New("the database cannot be reached")

// describe names a database to a person, without the password.
func describe(cfg *pgx.ConnConfig) string {
	return fmt.Sprintf("Postgres at %s, database %q, role %q", address(cfg), cfg.Database, cfg.User)
}

// lineError has a text of one line.
type lineError struct {
	text  string
	cause error
}

func (e *lineError) Error() string { return e.text }
func (e *lineError) Unwrap() error { return e.cause }

func address(cfg *pgx.ConnConfig) string {
	if strings.HasPrefix(cfg.Host, "/") {
		return fmt.Sprintf("%s/.s.PGSQL.%d", cfg.Host, cfg.Port)
	}
	return fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func adviceFor(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ": check the URL, and that Postgres runs and can be reached from here"
	}
	switch pg.Code {
	case "28P01", "28000":
		return ": check the user and the password of the URL, and pg_hba.conf"
	case "3D000":
		return ": make the database with createdb, or name another one in the URL"
	case "42501":
		return ": grant this role CREATE on the database and ownership of the schema, or let a role that has them run \"sequin migrate up\" once"
	case "53300":
		return ": raise max_connections, or stop other clients"
	case "57P03":
		return ": Postgres is starting or stopping, try again"
	}
	return ""
}

// isDenied reports whether a right was missing.
func isDenied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}
