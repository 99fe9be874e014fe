package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestOpenSaysWhatToDo holds that what stands against opening is said in one line, without the password.
func TestOpenSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct{ name, url, want string }{
		{"no URL of Postgres", "mysql://x", "the URL of Postgres is not valid"},
		{"nobody listens", "postgres://u:secret@127.0.0.1:1/d", "check the URL, and that Postgres runs"},
		{"a port that is none", "postgres://u:secret@127.0.0.1:99999/d", "the URL of Postgres is not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(context.Background(), tt.url, Options{})
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestOpenSaysWhatIsWrongWithTheDatabase(t *testing.T) {
	requirePostgres(t)
	schema := newSchema(t)
	execute(t, fmt.Sprintf("create role r_%s login connection limit 5", schema))
	t.Cleanup(func() { execute(t, "drop role r_"+schema) })
	role := databaseURL + "&user=r_" + schema
	for _, tt := range []struct {
		name, url string
		o         Options
		want      string
	}{
		{"no such database", databaseURL + "&dbname=none", Options{}, "createdb"},
		{"no such role", databaseURL + "&user=none", Options{}, "check the user"},
		{"no right to make a schema", role, Options{Schema: schema, MaxConns: 2}, "grant this role CREATE"},
		{"too few connections for the role", role, Options{Schema: schema, MaxConns: 5}, "it allows 5 connections, and this replica uses up to 6"},
		{"too few connections", databaseURL, Options{Schema: schema, MaxConns: 1000}, "raise max_connections"},
		{"one connection", databaseURL, Options{Schema: schema, MaxConns: 1}, "at least 2"},
		{"read-only", databaseURL + "&default_transaction_read_only=on", Options{Schema: schema}, "use the URL of the primary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(context.Background(), tt.url, tt.o)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestAnOldServerIsRefused(t *testing.T) {
	require.ErrorContains(t, serverAdvice(140011, "14.11", false, 100, 16), "it is Postgres 14.11, and the store needs 15 or newer")
	require.NoError(t, serverAdvice(150000, "15.0", false, 17, 16))
}

// TestANewerSchemaIsRefused also holds that nothing is changed.
func TestANewerSchemaIsRefused(t *testing.T) {
	st := openWith(t, Options{})
	newer := len(migrations) + 1
	execute(t, fmt.Sprintf("update %s.schema_version set version = %d", st.schema, newer))
	_, err := Open(context.Background(), databaseURL, Options{Schema: st.options.Schema})
	require.ErrorIs(t, err, store.ErrVersion)
	var version *store.VersionError
	require.ErrorAs(t, err, &version)
	require.Equal(t, store.VersionError{Found: newer, Known: len(migrations)}, *version)
	require.ErrorContains(t, err, "upgrade this program")
}

// TestReplicasOpenTogether holds that one of them makes the schema and that all have one id.
func TestReplicasOpenTogether(t *testing.T) {
	schema := newSchema(t)
	ids := make(chan string, 5)
	for range cap(ids) {
		go func() {
			st, err := Open(context.Background(), databaseURL, Options{Schema: schema})
			if err != nil {
				ids <- err.Error()
				return
			}
			id := st.ID()
			_ = st.Close()
			ids <- id
		}()
	}
	first := <-ids
	require.Len(t, first, 36)
	for range cap(ids) - 1 {
		require.Equal(t, first, <-ids)
	}
}

// TestARoleWithoutRightsOnTheSchemaUsesIt holds that only the first opening needs the right to make tables.
func TestARoleWithoutRightsOnTheSchemaUsesIt(t *testing.T) {
	st := openWith(t, Options{})
	role := "w_" + st.options.Schema
	execute(t, fmt.Sprintf("create role %s login; grant usage on schema %s to %s; grant select, insert, update, delete on all tables in schema %s to %s", role, st.schema, role, st.schema, role))
	t.Cleanup(func() { execute(t, "drop owned by "+role+"; drop role "+role) })
	other, err := Open(context.Background(), databaseURL+"&user="+role, Options{Schema: st.options.Schema, MaxConns: 2})
	require.NoError(t, err)
	defer other.Close()
	s, err := other.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	_, err = s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a", Data: "1"}})
	require.NoError(t, err)
}

// TestTheURLSetsTheNumberOfConnections holds which setting counts.
func TestTheURLSetsTheNumberOfConnections(t *testing.T) {
	conns := func(url string, o Options) int32 {
		cfg, err := poolConfig(url, &o)
		require.NoError(t, err)
		return cfg.MaxConns
	}
	require.Equal(t, int32(defaultConns), conns("postgres://h/d", Options{}))
	require.Equal(t, int32(7), conns("postgres://h/d?pool_max_conns=7", Options{}))
	require.Equal(t, int32(3), conns("postgres://h/d?pool_max_conns=7", Options{MaxConns: 3}))
}
