package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin"
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
// behind them, and the replicas log it. Messages of one call that take more bytes than the stream may hold wait for ever.
//
// An invalid message and a stream that does not exist are errors. After an error roll the transaction back.
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
	from {s}.streams
	where uuid::text = $1::text or name = $1::text
	order by uuid::text = $1::text desc limit 1`

func (o Outbox) send(stream string, messages []sequin.Message, exec func(text string, args ...any) (int64, error)) error {
	rest := make([]store.Message, len(messages))
	for i, m := range messages {
		if err := checkStaged(m); err != nil {
			return fmt.Errorf("sequin: message %d of %d: %w", i+1, len(messages), err)
		}
		rest[i] = store.Message{Key: m.Key, Data: m.Data}
	}
	schema := o.Schema
	if schema == "" {
		schema = defaultSchema
	}
	text := strings.ReplaceAll(stageSQL, "{s}", quoted(schema))
	for len(rest) > 0 {
		n, _ := chunkLength(rest)
		keys, data, size := encodeChunk(rest[:n])
		stored, err := exec(text, stream, int64(n), size, keys, data)
		if err != nil {
			return fmt.Errorf("sequin: cannot leave messages for stream %q: %w", stream, err)
		}
		if stored == 0 {
			return fmt.Errorf("sequin: there is no stream %q: create it first, or name another one: %w", stream, ErrNoStream)
		}
		rest = rest[n:]
	}
	return nil
}

// ErrNoStream is the error of a stream that does not exist.
var ErrNoStream = store.ErrNoStream

// checkStaged returns what is wrong with a message. It refuses what a server refuses: nobody is there to be told later.
func checkStaged(m sequin.Message) error {
	const maxKey, maxTokens = 255, 16 // the limits of the server
	tokens := strings.Split(m.Key, ".")
	for _, token := range tokens {
		if token == "" {
			return fmt.Errorf("key %q is empty or has an empty token", m.Key)
		}
	}
	invalid := func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '>' }
	switch {
	case len(tokens) > maxTokens:
		return fmt.Errorf("key %q has more than %d tokens", m.Key, maxTokens)
	case len(m.Key) > maxKey:
		return fmt.Errorf("key %.20q… has more than %d characters", m.Key, maxKey)
	case strings.ContainsFunc(m.Key, invalid):
		return fmt.Errorf("key %q has invalid characters: use printable ASCII without space, * and >", m.Key)
	case !utf8.ValidString(m.Data):
		return errors.New("its data is not UTF-8")
	}
	return nil
}
