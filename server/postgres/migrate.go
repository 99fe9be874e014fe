package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// migrations are the texts of the embedded files. The migration at index i makes version i+1. They only add, so that
// replicas of the version before can go on while a newer one starts.
var migrations = readMigrations()

func readMigrations() (all []string) {
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		panic(err) // the pattern is wrong
	}
	for _, name := range names { // in the order of their numbers
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		all = append(all, string(text))
	}
	return all
}

// migrationLock is the advisory lock of replicas that migrate: "sequin" in ASCII.
const migrationLock = 0x73657175696e

// migrate makes the schema, or brings it up to date. A schema that is up to date needs no right to change it.
func migrate(ctx context.Context, conn *pgx.Conn, schema string) error {
	version, err := schemaVersion(ctx, conn, schema)
	if err != nil {
		return err
	}
	if version == len(migrations) {
		return nil
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		version, err := schemaVersion(ctx, tx, schema)
		if err != nil {
			return err
		}
		return applyMigrations(ctx, tx, schema, version)
	})
}

func applyMigrations(ctx context.Context, tx pgx.Tx, schema string, version int) error {
	name := pgx.Identifier{schema}.Sanitize()
	if version == 0 {
		_, err := tx.Exec(ctx, "create schema if not exists "+name+"; create table "+name+".schema_version (version integer not null); insert into "+name+".schema_version values (0)", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
	}
	for _, text := range migrations[version:] {
		if _, err := tx.Exec(ctx, strings.ReplaceAll(text, "{s}", name), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "update "+name+".schema_version set version = $1", len(migrations))
	return err
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion is readSchemaVersion that refuses a version newer than this program.
func schemaVersion(ctx context.Context, q querier, schema string) (version int, err error) {
	version, err = readSchemaVersion(ctx, q, schema)
	if err == nil && version > len(migrations) {
		return 0, &store.VersionError{Found: version, Known: len(migrations)}
	}
	return version, err
}

// readSchemaVersion returns 0 when there is no schema.
func readSchemaVersion(ctx context.Context, q querier, schema string) (version int, err error) {
	name := pgx.Identifier{schema}.Sanitize()
	var exists bool
	// Not to_regclass, which does not see a table that another replica has made since this transaction began.
	const find = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = 'schema_version')"
	if err := q.QueryRow(ctx, find, schema).Scan(&exists); err != nil {
		return 0, err
	}
	if !exists {
		return 0, nil
	}
	err = q.QueryRow(ctx, "select version from "+name+".schema_version").Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("%w: the table %s.schema_version is empty", store.ErrDamaged, name)
	}
	return version, err
}

// SchemaVersion says which version of the tables a database has.
type SchemaVersion struct {
	Database string `json:"database"` // where it is, without the password
	Schema   string `json:"schema"`
	Found    int    `json:"found"` // 0 when there is none
	Known    int    `json:"known"` // the version of this program
}

// ReadSchemaVersion reads which version of the tables a database has. It changes nothing. The errors are those of Open, but
// a version that is newer than this program is none.
func ReadSchemaVersion(ctx context.Context, url string, o Options) (SchemaVersion, error) {
	return withSchema(ctx, url, o, func(*pgx.Conn) error { return nil })
}

// Migrate makes the tables, or brings them up to date, as Open does, for a role that owns them. It returns the version that
// was there before. The errors are those of Open.
func Migrate(ctx context.Context, url string, o Options) (before SchemaVersion, err error) {
	o = o.withDefaults()
	return withSchema(ctx, url, o, func(conn *pgx.Conn) error {
		if err := checkServer(ctx, conn, 0); err != nil {
			return err
		}
		return migrate(ctx, conn, o.Schema)
	})
}

// withSchema connects, reads the version, and calls f.
func withSchema(ctx context.Context, url string, o Options, f func(*pgx.Conn) error) (SchemaVersion, error) {
	o = o.withDefaults()
	cfg, err := poolConfig(url, &o)
	if err != nil {
		return SchemaVersion{}, err
	}
	v := SchemaVersion{Database: describe(cfg.ConnConfig), Schema: o.Schema, Known: len(migrations)}
	conn, err := connectOnce(ctx, cfg)
	if err != nil {
		return v, openFailed(cfg.ConnConfig, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if v.Found, err = readSchemaVersion(ctx, conn, o.Schema); err == nil {
		err = f(conn)
	}
	if err != nil {
		return v, openFailed(cfg.ConnConfig, err)
	}
	return v, nil
}
