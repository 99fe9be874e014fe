package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sequin-go/sequin/server/internal/store"
)

// sql2024 does what the server of August 2024 did in its database: the same tables, indexes and statements in the same
// transactions. What that server did besides, such as its JSON, is left out.
type sql2024 struct {
	url       string
	pool      *pgxpool.Pool
	stream    uuid.UUID
	consumers []uuid.UUID
}

// poolSize is more than enough for all callers. The server had 100.
const poolSize = 100

func openSQL(ctx context.Context, url string, c cell) (_ *sql2024, err error) {
	o := &sql2024{url: url, stream: uuid.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.remove(context.WithoutCancel(ctx)))
		}
	}()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return o, err
	}
	cfg.MaxConns = poolSize
	if o.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return o, err
	}
	if _, err := o.pool.Exec(ctx, tables2024()); err != nil {
		return o, err
	}
	partitions := []string{fmt.Sprintf("create table old2024.messages_bench partition of old2024.messages for values in ('%s')", o.stream)}
	for i := range c.consumers {
		id := uuid.New()
		o.consumers = append(o.consumers, id)
		partitions = append(partitions, fmt.Sprintf("create table old2024.consumer_messages_bench_c%d partition of old2024.consumer_messages for values in ('%s')", i, id))
	}
	for _, text := range partitions {
		if _, err := o.pool.Exec(ctx, text); err != nil {
			return o, err
		}
	}
	return o, nil
}

// insertMessages is the insert of as many messages as there are rows of values, each with two tokens of its key.
func insertMessages(rows int) string {
	var b strings.Builder
	b.WriteString("insert into old2024.messages as m (stream_id, token1, token2, data, data_hash, inserted_at, updated_at) values ")
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		n := i * columns2024
		fmt.Fprintf(&b, "($%d,$%d,$%d,$%d,$%d,$%d,$%d)", n+1, n+2, n+3, n+4, n+5, n+6, n+7)
	}
	b.WriteString(` on conflict (key, stream_id) do update set data = excluded.data, data_hash = excluded.data_hash,
		seq = nextval('old2024.messages_seq'::text::regclass), updated_at = excluded.updated_at
		where m.data_hash is distinct from excluded.data_hash returning key, stream_id, seq`)
	return b.String()
}

// columns2024 is how many values insertMessages has in a row.
const columns2024 = 7

// publish stores the messages, and makes each available to each consumer, in one transaction.
func (o *sql2024) publish(ctx context.Context, _ int, messages []store.Message) error {
	now := time.Now().UTC()
	args := make([]any, 0, columns2024*len(messages)+1)
	// Its library made such a statement anew each time. Postgres parses and plans it.
	args = append(args, pgx.QueryExecModeCacheDescribe)
	for _, m := range messages {
		token1, token2, _ := strings.Cut(m.Key, ".")
		hash := sha256.Sum256([]byte(m.Data))
		args = append(args, o.stream, token1, token2, m.Data, base64.StdEncoding.EncodeToString(hash[:]), now, now)
	}
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, insertMessages(len(messages)), args...)
		if err != nil {
			return err
		}
		var keys []string
		var seqs []int64
		var key string
		var stream uuid.UUID
		var seq int64
		_, err = pgx.ForEachRow(rows, []any{&key, &stream, &seq}, func() error {
			keys, seqs = append(keys, key), append(seqs, seq)
			return nil
		})
		if err != nil {
			return err
		}
		if len(keys) != len(messages) {
			return fmt.Errorf("%d of %d messages changed the stream", len(keys), len(messages))
		}
		return o.makeAvailable(ctx, tx, keys, seqs)
	})
}

func (o *sql2024) makeAvailable(ctx context.Context, tx pgx.Tx, keys []string, seqs []int64) error {
	if len(o.consumers) == 0 {
		return nil
	}
	var consumers []uuid.UUID
	var allKeys []string
	var allSeqs []int64
	for _, c := range o.consumers {
		for range keys {
			consumers = append(consumers, c)
		}
		allKeys, allSeqs = append(allKeys, keys...), append(allSeqs, seqs...)
	}
	_, err := tx.Exec(ctx, available2024, consumers, allKeys, allSeqs)
	return err
}

func (o *sql2024) receive(ctx context.Context, _, consumer, n int) ([]store.ID, error) {
	now := time.Now().UTC()
	rows, err := o.pool.Query(ctx, receive2024, o.consumers[consumer], maxAckPending, now, n, now.Add(ackWait))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.ID, error) {
		var id pgtype.UUID
		var key, data string
		var seq int64
		var at, changed time.Time
		err := row.Scan(&id, &key, &seq, &data, &at, &changed)
		return id.Bytes, err
	})
}

// ack settles messages as it did for a consumer that is more than five minutes old: acked ones are deleted.
func (o *sql2024) ack(ctx context.Context, _, consumer int, ids []store.ID) error {
	values := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		values[i] = pgtype.UUID{Bytes: id, Valid: true}
	}
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		for _, text := range ack2024 {
			if _, err := tx.Exec(ctx, text, o.consumers[consumer], values); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle also lets Postgres know the tables, as that of a server knows them that has run for a while.
func (o *sql2024) settle(ctx context.Context) error {
	if _, err := o.pool.Exec(ctx, "analyze old2024.messages, old2024.consumer_messages"); err != nil {
		return err
	}
	return checkpoint(ctx, o.url)
}

func (o *sql2024) remove(ctx context.Context) error {
	if o.pool != nil {
		o.pool.Close()
	}
	return dropSchema(ctx, o.url, "old2024")
}
