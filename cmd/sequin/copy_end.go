package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/postgres"
)

// end is a store that a copy reads or writes.
type end struct {
	store server.Store
	where string // describes it to a person, without a password
	serve string // how a server uses it
	close func() error
}

// copyConns are the connections to a database that a copy uses: one at a time, and those of the goroutines of the store.
const copyConns = 4

// openEnd opens the store at a directory or a URL. One that is read must be there.
func openEnd(ctx context.Context, w world, at string, read bool) (*end, error) {
	log := slog.New(slog.NewTextHandler(w.errors, &slog.HandlerOptions{Level: slog.LevelWarn}))
	scheme, _, isURL := strings.Cut(at, "://")
	switch {
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		return openDatabaseEnd(ctx, at, log)
	case isURL:
		return nil, cli.Usage("a copy is made between stores, not between servers: name a directory, or a URL that begins with postgres://, not %s://", scheme)
	}
	dir, err := filepath.Abs(at)
	if err != nil {
		return nil, err
	}
	if read {
		if err := mustHaveStore(dir); err != nil {
			return nil, err
		}
	}
	st, err := durable.Open(dir, durable.Options{Logger: log})
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, fmt.Errorf("cannot copy with the directory %s: %w: stop that server first", dir, err)
	case err != nil:
		return nil, cannot("open", dir, err)
	}
	return &end{st, dir, "--data " + dir, st.Close}, nil
}

func openDatabaseEnd(ctx context.Context, url string, log *slog.Logger) (*end, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	st, err := postgres.Open(ctx, url, postgres.Options{MaxConns: copyConns, Logger: log})
	if errors.Is(err, postgres.ErrUnreachable) {
		return nil, cli.Unreachable(err)
	}
	if err != nil {
		return nil, err // says it all
	}
	return &end{st, st.Where(), "--postgres URL, that of " + st.Where(), st.Close}, nil
}
