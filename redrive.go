package sequin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
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
// to those that keep one message per key. Fewer at once where an answer of 100 dead letters is too large; the error is
// ErrResponseTooLarge where a single one is. What was in an answer that was lost on its way is waited for until its lease
// ends. It starts no goroutine.
//
// The consumer wants a MaxAckPending larger than the number of dead letters: what cannot be sent counts against it until
// the end, and on the 2024 server, for five minutes after the consumer was created, so does what is acked. Where no more
// is handed out because of that, Redrive takes it for the end; another Redrive later finds the rest.
func (c *Client) Redrive(ctx context.Context, stream, consumer string) (Redriven, error) {
	found, err := c.GetConsumer(ctx, stream, consumer)
	if err != nil {
		return Redriven{}, err
	}
	r := &redrive{client: c, stream: stream, consumer: found.ID, ackWait: found.AckWait, batch: redriveBatch,
		appends: map[string]bool{}, left: map[letterID]string{}, reasons: map[string]error{}}
	for more := true; more && err == nil; {
		more, err = r.round(ctx)
	}
	if len(r.left) > 0 {
		// On a ctx of its own: otherwise they would stay away until their leases end.
		ids := slices.Collect(maps.Values(r.left))
		err = errors.Join(err, r.settle(context.WithoutCancel(ctx), r.client.NackMessages, ids))
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
	ackWait          time.Duration
	batch            int                 // how many are asked for
	lost             time.Time           // when what was in answers that were lost, or too large, comes again
	unheard          int                 // receives in a row whose answer was lost
	passed           int                 // in answers in a row that brought nothing new
	appends          map[string]bool     // by stream
	left             map[letterID]string // the ack ids of dead letters that could not be sent
	reasons          map[string]error    // by stream and kind
}

// letterID identifies a dead letter across its deliveries.
type letterID struct {
	key string
	seq int64
}

// letter is a dead letter that was received.
type letter struct {
	DeadMessage
	ackID string
	own   letterID // of the dead letter
}

// round receives dead letters and sends what is in them. more is false when there are no others.
func (r *redrive) round(ctx context.Context) (more bool, err error) {
	// Repeated only where the server surely handed nothing out: what was in an answer that was lost is to be waited for.
	got, err := r.client.receive(ctx, r.stream, r.consumer, ReceiveOptions{BatchSize: r.batch}, ifNotActed)
	retry := r.client.cfg.Retry
	switch {
	case errors.Is(err, ErrResponseTooLarge) && r.batch > 1:
		// What was in it is on lease all the same, on most servers, and comes again.
		r.batch, r.lost = r.batch/2, time.Now().Add(r.ackWait)
		return true, nil
	case errors.Is(err, ErrOutcomeUnknown) && classify(err).repeatable && r.unheard+1 < retry.MaxAttempts:
		r.lost = time.Now().Add(r.ackWait)
		r.unheard++
		return true, pause(ctx, retry.wait(r.unheard-1, err))
	case err != nil:
		return false, err
	}
	r.unheard = 0
	byStream := map[string][]letter{}
	var names []string
	fresh := false
	for _, m := range got {
		l := letter{ackID: m.AckID, own: letterID{m.Key, m.Seq}}
		if _, again := r.left[l.own]; again {
			r.left[l.own] = l.ackID
			continue
		}
		fresh = true
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
	return r.goesOn(ctx, len(got), fresh)
}

// goesOn reports whether there may be others after an answer of so many. What could not be sent comes again, before
// others, when a redrive takes longer than its leases: it is passed over, but only once, in case it takes longer than its
// lease to do that. What was in answers that were lost, or too large, is waited for.
func (r *redrive) goesOn(ctx context.Context, got int, fresh bool) (more bool, err error) {
	r.passed += got
	switch wait := time.Until(r.lost); {
	case fresh:
		r.passed = 0
		return true, nil
	case got == r.batch && r.passed <= len(r.left):
		return true, nil
	case wait > 0:
		r.passed = 0
		return true, pause(ctx, wait)
	}
	return false, nil
}

// pause waits for so long, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
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
	r.left[l.own] = l.ackID
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
