package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/postgres"
)

// replicas are stores on one database.
type replicas struct {
	url, schema string
	all         []*postgres.Store
	streams     []store.Stream     // by replica
	consumers   [][]store.Consumer // by replica and consumer
}

func openStore(ctx context.Context, url string, c cell) (_ *replicas, err error) {
	r := &replicas{url: url, schema: fmt.Sprintf("bench_%d", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.remove(context.WithoutCancel(ctx)))
		}
	}()
	for i := range c.replicas {
		st, err := postgres.Open(ctx, url, postgres.Options{Schema: r.schema})
		if err != nil {
			return r, err
		}
		r.all = append(r.all, st)
		if i == 0 {
			if err := create(ctx, st, c); err != nil {
				return r, err
			}
		}
		s, err := st.Stream(ctx, streamName)
		if err != nil {
			return r, err
		}
		consumers, err := s.Consumers(ctx)
		if err != nil {
			return r, err
		}
		r.streams, r.consumers = append(r.streams, s), append(r.consumers, consumers)
	}
	return r, nil
}

const streamName = "bench"

// limits are the defaults of the API.
var limits = store.ConsumerLimits{AckWait: ackWait, MaxAckPending: maxAckPending, MaxWaiting: 100}

const (
	ackWait       = 30 * time.Second
	maxAckPending = 10_000
)

func create(ctx context.Context, st *postgres.Store, c cell) error {
	s, err := st.CreateStream(ctx, store.StreamOptions{Name: streamName, OneMessagePerKey: c.work == workUpsert})
	if err != nil {
		return err
	}
	for i := range c.consumers {
		_, err := s.CreateConsumer(ctx, store.ConsumerOptions{Name: fmt.Sprint("c", i), Filter: ">", ConsumerLimits: limits})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *replicas) publish(ctx context.Context, caller int, messages []store.Message) error {
	n, err := r.streams[caller%len(r.streams)].Send(ctx, store.Once{}, messages)
	if err == nil && n != len(messages) {
		err = fmt.Errorf("%d of %d messages changed the stream", n, len(messages))
	}
	return err
}

func (r *replicas) receive(ctx context.Context, caller, consumer, n int) ([]store.ID, error) {
	got, err := r.consumers[caller%len(r.all)][consumer].Receive(ctx, n, nil)
	ids := make([]store.ID, len(got))
	for i, d := range got {
		ids[i] = d.ID
	}
	return ids, err
}

func (r *replicas) ack(ctx context.Context, caller, consumer int, ids []store.ID) error {
	return r.consumers[caller%len(r.all)][consumer].Settle(ctx, ids, store.Ack)
}

func (r *replicas) settle(ctx context.Context) error { return checkpoint(ctx, r.url) }

// checkpoint writes what is dirty, so that a measurement does not pay for what was done before.
func checkpoint(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "checkpoint")
	return err
}

func (r *replicas) remove(ctx context.Context) (err error) {
	for _, st := range r.all {
		err = errors.Join(err, st.Close())
	}
	return errors.Join(err, dropSchema(ctx, r.url, r.schema))
}

func dropSchema(ctx context.Context, url, schema string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "drop schema if exists "+pgx.Identifier{schema}.Sanitize()+" cascade")
	return err
}
