package postgres

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// startOldPostgres runs a server that says to be Postgres 14.11 and knows nothing else. It returns its URL.
func startOldPostgres(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serveOldPostgres(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "postgres://u:secret@" + listener.Addr().String() + "/d?sslmode=disable"
}

func serveOldPostgres(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	for _, m := range []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{SecretKey: make([]byte, 4)}, &pgproto3.ReadyForQuery{TxStatus: 'I'}} {
		b.Send(m)
	}
	row, encoded := oldRow(""), [][]byte(nil)
	for b.Flush() == nil {
		message, err := b.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Parse:
			row = oldRow(m.Query)
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			b.Send(&pgproto3.ParameterDescription{})
			b.Send(&pgproto3.RowDescription{Fields: row.fields})
		case *pgproto3.Bind:
			b.Send(&pgproto3.BindComplete{})
			encoded = row.encode(m.ResultFormatCodes)
		case *pgproto3.Execute:
			b.Send(&pgproto3.DataRow{Values: encoded})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return
		}
	}
}

// answered is a row of the types int4, text and bool.
type answered struct {
	fields []pgproto3.FieldDescription
	values []any
}

func (a *answered) add(oid uint32, value any) {
	a.fields = append(a.fields, pgproto3.FieldDescription{Name: []byte("x"), DataTypeOID: oid})
	a.values = append(a.values, value)
}

// encode returns the row, and notes the formats, which are those of a Bind.
func (a *answered) encode(formats []int16) (row [][]byte) {
	types := pgtype.NewMap()
	for i := range a.fields {
		f := &a.fields[i]
		if len(formats) > 0 {
			f.Format = formats[min(i, len(formats)-1)]
		}
		value, err := types.Encode(f.DataTypeOID, f.Format, a.values[i], nil)
		if err != nil {
			panic(err)
		}
		row = append(row, value)
	}
	return row
}

// oldRow answers the question for the process, and those about the version: that of a diagnosis, which also asks for names, and
// that of opening.
func oldRow(query string) *answered {
	a := &answered{}
	if strings.Contains(query, "pg_backend_pid") {
		a.add(pgtype.Int4OID, int32(0))
		return a
	}
	a.add(pgtype.Int4OID, int32(140011))
	a.add(pgtype.TextOID, "14.11")
	a.add(pgtype.BoolOID, false)
	if strings.Contains(query, "current_database(),") {
		a.add(pgtype.TextOID, "u")
		a.add(pgtype.TextOID, "d")
		a.add(pgtype.BoolOID, false)
	} else {
		a.add(pgtype.Int4OID, int32(100))
	}
	return a
}

// TestAnOldPostgresIsRefused holds that it is told before anything is asked or done that it does not know.
func TestAnOldPostgresIsRefused(t *testing.T) {
	url := startOldPostgres(t)
	_, err := Open(context.Background(), url, Options{})
	require.ErrorContains(t, err, "it is Postgres 14.11, and the store needs 15 or newer: upgrade it")
	require.NotContains(t, err.Error(), "secret")
	d, err := Diagnose(context.Background(), url, Options{})
	require.NoError(t, err)
	require.Equal(t, []Finding{{"version", Fault, "Postgres 14.11", "the store needs 15 or newer: upgrade it"}}, d.Findings)
	require.Equal(t, 1, d.Faults())
}
