package main

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/postgres"
)

// postgresVariable has the URL of a database, with its password.
const postgresVariable = "SEQUIN_POSTGRES"

// postgresListenVariable has the URL of --postgres-listen, with its password.
const postgresListenVariable = "SEQUIN_POSTGRES_LISTEN"

// databaseTimeout bounds how long a database may take, so that a wrong address is told.
const databaseTimeout = 30 * time.Second

// onDatabase makes cmd a command on a database, which --postgres or its variable names. act gets a ctx that ends with the first
// signal.
func onDatabase(w world, cmd *cobra.Command, act func(ctx context.Context, url string, asJSON bool) error) *cobra.Command {
	var at string
	var asJSON bool
	cmd.Args = arguments(0)
	cmd.Flags().StringVar(&at, "postgres", "", "`URL` of the database, as that of serve [$"+postgresVariable+"]")
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		at, err := databaseURL(w, at)
		if err != nil {
			return err
		}
		return withDatabase(w, func(ctx context.Context) error { return act(ctx, at, asJSON) })
	}
	return cmd
}

// databaseURL returns the URL of the flag, or that of the environment.
func databaseURL(w world, flag string) (string, error) {
	if flag != "" {
		return flag, refusePassword(flag, "--postgres", postgresVariable)
	}
	if at, _ := w.lookup(postgresVariable); at != "" {
		return at, nil
	}
	return "", cli.Usage("which database? Put its URL into $%s, or give --postgres URL", postgresVariable)
}

var passwordParameter = regexp.MustCompile(`(?i)password\s*=`)

// refusePassword refuses a URL of the command line that has a password, which every user of the machine can see. variable is
// that of the flag.
func refusePassword(at, flag, variable string) error {
	u, err := url.Parse(at)
	has := false
	if err == nil {
		_, has = u.User.Password()
	}
	if has || passwordParameter.MatchString(at) {
		return cli.Usage("the URL of %s has a password, which every user of this machine can see: put the URL into $%s, or the password into $PGPASSWORD or ~/.pgpass", flag, variable)
	}
	return nil
}

// withDatabase calls f with a ctx that ends with a signal, and gives its error an exit code.
func withDatabase(w world, f func(context.Context) error) error {
	ctx, stop := untilSignal(w)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	err := f(limited)
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("stopped by a signal")
	case errors.Is(err, postgres.ErrUnreachable):
		return cli.Unreachable(err)
	}
	return err
}
