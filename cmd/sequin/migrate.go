package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/postgres"
)

func newMigrate(w world) *cobra.Command {
	return group("migrate", "Make or change the tables of a Postgres database", newMigrateUp(w), newMigrateStatus(w))
}

// migrated is what "migrate up" prints for programs.
type migrated struct {
	Database string `json:"database"`
	Schema   string `json:"schema"`
	From     int    `json:"from"`
	To       int    `json:"to"`
}

func newMigrateUp(w world) *cobra.Command {
	return onDatabase(w, &cobra.Command{
		Use:   "up [--postgres URL] [--json]",
		Short: "Make the tables, or bring them up to date",
		Long: `Make the tables that "sequin serve --postgres" needs, or bring them up to date. A
server does that itself when it starts, if its role may. Run this with another
role where the server's role must not make tables; afterwards "sequin doctor
--postgres" says which rights the server's role lacks.

Changes only add: servers of the version before go on while newer ones start.
Tables of a version that is newer than this program are left alone, with exit
code 1.`,
	}, func(ctx context.Context, url string, asJSON bool) error {
		before, err := postgres.Migrate(ctx, url, postgres.Options{})
		if err != nil {
			return err
		}
		if asJSON {
			return cli.JSON(w.out, migrated{before.Database, before.Schema, before.Found, before.Known})
		}
		text := "is up to date with"
		if before.Found < before.Known {
			text = fmt.Sprintf("went from version %d to", before.Found)
		}
		_, err = fmt.Fprintf(w.out, "schema %s in %s %s version %d\n", before.Schema, before.Database, text, before.Known)
		return err
	})
}

func newMigrateStatus(w world) *cobra.Command {
	return onDatabase(w, &cobra.Command{
		Use:   "status [--postgres URL] [--json]",
		Short: "Show which version the tables have",
		Long: `Show which version the tables have, and which one this program makes. It changes
nothing. It exits with 1 when the tables are newer than this program.`,
	}, func(ctx context.Context, url string, asJSON bool) error {
		v, err := postgres.ReadSchemaVersion(ctx, url, postgres.Options{})
		if err != nil {
			return err
		}
		if asJSON {
			err = cli.JSON(w.out, v)
		} else {
			err = cli.Fields(w.out, [][2]string{{"database", v.Database}, {"schema", v.Schema}, {"version", versionText(v)}})
		}
		if err == nil && v.Found > v.Known {
			return fmt.Errorf("the tables have version %d, and this program knows %d: upgrade this program", v.Found, v.Known)
		}
		return err
	})
}

func versionText(v postgres.SchemaVersion) string {
	switch {
	case v.Found == 0:
		return fmt.Sprintf("none of %d: make the tables with \"sequin migrate up\", or start a server", v.Known)
	case v.Found < v.Known:
		return fmt.Sprintf("%d of %d: bring them up to date with \"sequin migrate up\", or start a server", v.Found, v.Known)
	case v.Found > v.Known:
		return fmt.Sprintf("%d, newer than this program", v.Found)
	}
	return fmt.Sprintf("%d of %d", v.Found, v.Known)
}
