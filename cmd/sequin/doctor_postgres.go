package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/postgres"
)

// fromVariable is the value of "doctor --postgres" that stands for the URL in the environment. Without it a variable that is
// set for serve would decide what the doctor looks at.
const fromVariable = "env"

// orDatabase lets the doctor look at a database in place of a server.
func orDatabase(w world, cmd *cobra.Command) *cobra.Command {
	var at string
	cmd.Flags().StringVar(&at, "postgres", "", "look at the database of this `URL` instead, or of that in $"+postgresVariable+" if it is env")
	server := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if at == "" {
			return server(cmd, args)
		}
		for _, flag := range []string{"url", "context", "token-file"} {
			if cmd.Flags().Changed(flag) {
				return cli.Usage("--postgres and --%s exclude each other: give one of them", flag)
			}
		}
		if at == fromVariable {
			at = ""
		}
		if at, err = databaseURL(w, at); err != nil {
			return err
		}
		asJSON, err := cmd.Flags().GetBool("json")
		if err != nil {
			return err
		}
		return withDatabase(w, func(ctx context.Context) error { return diagnoseDatabase(ctx, w, at, asJSON) })
	}
	return cmd
}

// diagnoseDatabase prints what is found, and fails if a store could not work.
func diagnoseDatabase(ctx context.Context, w world, url string, asJSON bool) error {
	d, err := postgres.Diagnose(ctx, url, postgres.Options{})
	if err != nil {
		return err
	}
	if asJSON {
		err = cli.JSON(w.out, d)
	} else {
		err = printFindings(w, d)
	}
	if faults := d.Faults(); err == nil && faults > 0 {
		return fmt.Errorf("%s has %s: mend what is said above", d.Database, cli.Plural(faults, "fault"))
	}
	return err
}

func printFindings(w world, d *postgres.Diagnosis) error {
	fields := [][2]string{{"database", d.Database}}
	for _, f := range d.Findings {
		text := f.Text
		if f.Level != postgres.OK {
			text = fmt.Sprintf("%s: %s: %s", f.Level, f.Text, f.Advice)
		}
		fields = append(fields, [2]string{f.Name, text})
	}
	return cli.Fields(w.out, fields)
}
