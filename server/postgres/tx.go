package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Outbox sends messages inside transactions of an application whose tables are in the database of the store. It needs no
// Store and no server in its process: any replica delivers what it leaves. The zero value is ready for use, and may be used
// concurrently. The transactions need the right to select from the table streams and to insert into the table staged.
type Outbox struct {
	// Schema is that of the store; default "sequin".
	Schema string
}

// SendTx leaves messages for a stream, named by its name or id, in a transaction. They are sent when the transaction commits,
// and never when it does not. Replicas look for them every 100 ms; Store.Flush after the commit sends them at once.
//
// SendTx takes no lock that others wait for, and the transaction may stay open for long. Each 1,000 messages or 1 MiB are one
// insert, so one call with many messages is faster than many calls.
//
// The messages of one transaction keep their order. Between transactions the order holds where one saw the commit of the
// other: to keep the versions of a key in order, call SendTx after the transaction has locked the row that they are about.
//
// A stream that is full refuses nothing here: the messages wait in the outbox until there is room, the later ones of the stream
// behind them, and the replicas log it once a minute.
//
// The errors are ErrNoStream and ErrReadOnly; ErrInvalidKey, ErrInvalidData, ErrInvalidHeaders and ErrTooLarge of package sequin for a
// message that no server accepts; ErrTooLarge for messages that take more bytes than the stream may ever hold; and those of the
// database. After an error roll the transaction back.
func (o Outbox) SendTx(ctx context.Context, tx pgx.Tx, stream string, messages []sequin.Message) error {
	return o.send(stream, messages, func(text string, args ...any) (int64, error) {
		tag, err := tx.Exec(ctx, text, args...)
		return tag.RowsAffected(), err
	})
}

// SendSQLTx is SendTx for database/sql, with any driver of Postgres.
func (o Outbox) SendSQLTx(ctx context.Context, tx *sql.Tx, stream string, messages []sequin.Message) error {
	return o.send(stream, messages, func(text string, args ...any) (int64, error) {
		result, err := tx.ExecContext(ctx, text, args...)
		if err != nil {
			return 0, err
		}
		return result.RowsAffected()
	})
}

// stageSQL has parameters of types that all drivers know.
const stageSQL = `insert into {s}.staged (stream_id, n, bytes, keys, data)
	select id, $2::int, $3::bigint, $4::bytea, $5::bytea
	from (
		select id, max_bytes, copy_state from {s}.streams where uuid::text = $1::text or name = $1::text
		order by uuid::text = $1::text desc limit 1
	) stream where copy_state = 0 and (max_bytes = 0 or max_bytes >= $3::bigint)`

const (
	findStreamSQL   = `select from {s}.streams where uuid::text = $1::text or name = $1::text limit 1`
	findReadOnlySQL = `select from {s}.streams where (uuid::text = $1::text or name = $1::text) and copy_state <> 0 limit 1`
)

func (o Outbox) send(stream string, messages []sequin.Message, exec func(text string, args ...any) (int64, error)) error {
	rest := make([]store.Message, len(messages))
	for i, m := range messages {
		if err := checkStaged(m); err != nil {
			return fmt.Errorf("%w, in message %d of %d", err, i+1, len(messages))
		}
		packed, err := packHeaders(m.Headers)
		if err != nil {
			return fmt.Errorf("%w, in message %d of %d", err, i+1, len(messages))
		}
		rest[i] = store.Message{Key: m.Key, Headers: packed, Data: m.Data}
	}
	text := o.q(stageSQL)
	for len(rest) > 0 {
		n, _ := chunkLength(rest)
		keys, data, size := encodeChunk(rest[:n])
		stored, err := exec(text, stream, int64(n), size, keys, data)
		if err != nil {
			return fmt.Errorf("sequin: cannot leave messages for stream %q: %w", stream, err)
		}
		if stored == 0 {
			return o.refused(stream, size, exec)
		}
		rest = rest[n:]
	}
	return nil
}

// refused returns why a stream took none of so many bytes.
func (o Outbox) refused(stream string, size int64, exec func(text string, args ...any) (int64, error)) error {
	found, err := exec(o.q(findStreamSQL), stream)
	switch {
	case err != nil:
		return fmt.Errorf("sequin: cannot leave messages for stream %q: %w", stream, err)
	case found == 0:
		return fmt.Errorf("sequin: there is no stream %q: create it first, or name another one: %w", stream, ErrNoStream)
	}
	readOnly, err := exec(o.q(findReadOnlySQL), stream)
	if err != nil {
		return fmt.Errorf("sequin: cannot leave messages for stream %q: %w", stream, err)
	}
	if readOnly > 0 {
		return fmt.Errorf("sequin: stream %q takes no messages here: %w: it is being copied, or was copied, to another store", stream, ErrReadOnly)
	}
	return fmt.Errorf("%w: stream %q may hold less than the %d bytes of these messages: send fewer in a call", sequin.ErrTooLarge, stream, size)
}

// q returns a statement for the schema of the store.
func (o Outbox) q(text string) string {
	schema := o.Schema
	if schema == "" {
		schema = defaultSchema
	}
	return strings.ReplaceAll(text, "{s}", quoted(schema))
}

var (
	// ErrNoStream is the error of a stream that does not exist.
	ErrNoStream = store.ErrNoStream
	// ErrReadOnly is the error of a stream that is being copied, or was copied, to another store.
	ErrReadOnly = store.ErrCopying
)

// checkStaged returns what is wrong with a message. It refuses what a server refuses: nobody is there to be told later.
func checkStaged(m sequin.Message) error {
	switch fault := store.CheckKey(m.Key); {
	case fault != store.KeyFine:
		return fmt.Errorf("%w: key %.40q %s", sequin.ErrInvalidKey, m.Key, fault)
	case !utf8.ValidString(m.Data):
		return fmt.Errorf("%w: it is not UTF-8", sequin.ErrInvalidData)
	case strings.IndexByte(m.Data, 0) >= 0:
		return fmt.Errorf("%w: it must not contain null characters", sequin.ErrInvalidData)
	case len(m.Key)+len(m.Data) > sequin.MaxRequestBytes:
		return fmt.Errorf("%w: key and data have more than %d bytes", sequin.ErrTooLarge, sequin.MaxRequestBytes)
	}
	return nil
}

// packHeaders packs the headers of a message and returns what is wrong with them.
func packHeaders(all map[string]string) (headers.Packed, error) {
	if len(all) == 0 {
		return "", nil
	}
	list := make([]headers.Header, 0, len(all))
	for name, value := range all {
		if !utf8.ValidString(value) {
			return "", fmt.Errorf("%w: the value of %.40q is not UTF-8", sequin.ErrInvalidHeaders, name)
		}
		list = append(list, headers.Header{Name: []byte(name), Value: []byte(value)})
	}
	packed, err := headers.Append(nil, list)
	if err != nil {
		return "", fmt.Errorf("%w: %w", sequin.ErrInvalidHeaders, err)
	}
	return headers.Packed(packed), nil
}
