package sequin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Redriven is what Redrive did.
type Redriven struct {
	// Sent counts the messages that are in their streams again.
	Sent int
	// Superseded counts those that were dropped, because their stream keeps one message per key and has a newer one.
	Superseded int
	// Left counts those that could not be sent. They stay with the dead letters.
	Left int
}

// Redrive sends what a consumer of a stream of dead letters gets back into the streams that it came from, under its own
// keys, until nothing is left; each dead letter is acked once its message is confirmed to be sent. All consumers of the
// original streams get it, not only the one that failed, and get it as a new message.
//
// What cannot be sent back stays with the dead letters, is nacked at the end, and does not stop the others; the error
// joins the reasons, each once a stream: ErrUnmodified, an *APIError such as ErrNotFound, [DeadMessage] data that cannot
// be read. When ctx ends, or the dead letters cannot be received or settled, Redrive returns at once with that. What has
// been sent and not acked by then is sent again by the next Redrive.
//
// A redrive sends 100 messages a request to streams that append, and one after the other, after a look at what is there,
// to those that keep one message per key. It starts no goroutine.
func (c *Client) Redrive(ctx context.Context, stream, consumer string) (Redriven, error) {
	found, err := c.GetConsumer(ctx, stream, consumer)
	if err != nil {
		return Redriven{}, err
	}
	r := &redrive{client: c, stream: stream, consumer: found.ID, appends: map[string]bool{}, seen: map[string]bool{},
		reasons: map[string]error{}}
	for more := true; more && err == nil; {
		more, err = r.round(ctx)
	}
	if len(r.left) > 0 {
		// On a ctx of its own: otherwise they would stay away until their leases end.
		err = errors.Join(err, r.settle(context.WithoutCancel(ctx), r.client.NackMessages, r.left))
	}
	r.Left = len(r.left)
	for _, what := range slices.Sorted(maps.Keys(r.reasons)) {
		err = errors.Join(err, r.reasons[what])
	}
	return r.Redriven, err
}

// redriveBatch is how many dead letters are held at once: few enough that a slow way back ends before their leases do.
const redriveBatch = 100

type redrive struct {
	Redriven
	client           *Client
	stream, consumer string
	appends          map[string]bool  // by stream
	seen             map[string]bool  // dead letters that could not be sent, by key and seq
	left             []string         // their ack ids
	reasons          map[string]error // by stream and kind
}

// letter is a dead letter that was received.
type letter struct {
	DeadMessage
	ackID string
	name  string // in seen
}

// round receives dead letters and sends what is in them. more is false when there are none, or only those that could not
// be sent before: they come again when a round takes longer than their lease.
func (r *redrive) round(ctx context.Context) (more bool, err error) {
	got, err := r.client.ReceiveMessages(ctx, r.stream, r.consumer, ReceiveOptions{BatchSize: redriveBatch})
	if err != nil {
		return false, err
	}
	byStream := map[string][]letter{}
	var names []string
	for _, m := range got {
		l := letter{ackID: m.AckID, name: fmt.Sprint(m.Seq, " ", m.Key)}
		if r.seen[l.name] {
			continue
		}
		more = true
		if err := json.Unmarshal([]byte(m.Data), &l.DeadMessage); err != nil || l.Stream == "" {
			r.leave(l, fmt.Errorf("sequin: %q is no dead letter: %w", clip(m.Key), errors.Join(ErrInvalidData, err)))
			continue
		}
		if byStream[l.Stream] == nil {
			names = append(names, l.Stream)
		}
		byStream[l.Stream] = append(byStream[l.Stream], l)
	}
	for _, name := range names {
		slices.SortStableFunc(byStream[name], func(a, b letter) int { return cmp.Compare(a.Seq, b.Seq) })
		acks, err := r.send(ctx, name, byStream[name])
		if settled := r.settle(context.WithoutCancel(ctx), r.client.AckMessages, acks); settled != nil || err != nil {
			return false, errors.Join(err, settled)
		}
	}
	return more, nil
}

// send sends messages back to one stream, and returns the ack ids of those that are done. The error is ctx's.
func (r *redrive) send(ctx context.Context, stream string, letters []letter) (acks []string, err error) {
	appends, known := r.appends[stream]
	if !known {
		found, err := r.client.GetStream(ctx, stream)
		if err != nil {
			for _, l := range letters {
				r.leave(l, err)
			}
			return nil, ctx.Err()
		}
		appends = found.appends()
		r.appends[stream] = appends
	}
	if appends {
		messages := make([]Message, len(letters))
		for i, l := range letters {
			messages[i] = Message{l.Key, l.Data}
			acks = append(acks, l.ackID)
		}
		switch _, err := r.client.SendMessages(ctx, stream, messages); {
		case err == nil:
			r.Sent += len(letters)
			return acks, nil
		case !errors.Is(err, ErrValidation) && !errors.Is(err, ErrTooLarge):
			for _, l := range letters {
				r.leave(l, err)
			}
			return nil, ctx.Err()
		}
		acks = nil // one of them is the reason, or they are too large together
	}
	for _, l := range letters {
		if ctx.Err() != nil {
			return acks, ended(ctx)
		}
		if err := r.sendOne(ctx, stream, l, appends); err != nil {
			r.leave(l, err)
			continue
		}
		acks = append(acks, l.ackID)
	}
	return acks, nil
}

// sendOne sends a message back, unless its stream keeps one message per key and has a newer one.
func (r *redrive) sendOne(ctx context.Context, stream string, l letter, appends bool) error {
	if !appends {
		there, err := r.client.GetMessage(ctx, stream, l.Key)
		switch {
		case err == nil && there.Seq > l.Seq:
			r.Superseded++
			return nil
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
	}
	sent, err := r.client.SendMessage(ctx, stream, l.Key, l.Data)
	if err == nil && sent.Published == 0 {
		err = ErrUnmodified
	}
	if err == nil {
		r.Sent++
	}
	return err
}

// leave keeps a dead letter, and its reason when the stream has none of that kind yet.
func (r *redrive) leave(l letter, err error) {
	r.seen[l.name] = true
	r.left = append(r.left, l.ackID)
	kind := fmt.Sprintf("%s %T", l.Stream, err)
	if r.reasons[kind] == nil {
		r.reasons[kind] = fmt.Errorf("sequin: redrive %q into stream %q: %w", clip(l.Key), l.Stream, err)
	}
}

// settle acks or nacks, in requests of their limit.
func (r *redrive) settle(ctx context.Context, how func(context.Context, string, string, []string) error, ids []string) error {
	for part := range slices.Chunk(ids, MaxBatch) {
		if err := how(ctx, r.stream, r.consumer, part); err != nil {
			return err
		}
	}
	return nil
}
