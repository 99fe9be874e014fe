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

	"github.com/sequin-go/sequin/internal/wire"
)

// Redriven is the result of Redrive.
type Redriven struct {
	// Sent counts the messages that were sent to their streams again.
	Sent int
	// Superseded counts the messages that were dropped, because their stream keeps one message per key and a later message
	// of its key was sent.
	Superseded int
	// Left counts the messages that could not be sent. They stay where they are.
	Left int
}

// Redrive receives dead letters from a consumer of their stream, and sends the messages in them to the streams that they
// came from, under their own keys, until the consumer has no more. It acks each dead letter once the server has confirmed
// its message. Every consumer of the original stream gets the message, as a new one, and not only the consumer that
// failed.
//
// A dead letter that cannot be sent stays in its stream and is nacked at the end; the others are still sent. The error
// joins the reasons, one of each kind for each stream: ErrUnmodified, an *APIError such as ErrNotFound, ErrUnsupported
// for a change of a sink and for headers that the server does not keep, or ErrNotDeadLetter for data that is not a [DeadMessage].
// Redrive returns at once when ctx ends, or when dead letters can no longer be received or settled. A message that was sent and
// whose dead letter was not acked by then is sent again by the next Redrive.
//
// Redrive asks for 10 messages first. It ends with ErrNotDeadLetter if none of them is a dead letter, because the stream is then
// probably not one of dead letters.
//
// What stays is given back with a nack. Where the server announces attempts the nack does not count as a delivery, so that a
// consumer with a MaxDeliver still delivers the message. On other servers it counts.
//
// To a stream that appends, up to 100 messages are sent in a request. To a stream that keeps one message per key they
// are sent one after the other, each after a read of its key. Redrive asks for fewer dead letters at once when an
// answer with 100 is too large, and returns ErrResponseTooLarge when an answer with one is. When an answer is lost,
// Redrive waits until the leases of the dead letters in it have ended. It starts no goroutine.
//
// The consumer's MaxAckPending should be larger than the number of dead letters. Those that cannot be sent count against
// it until the end. On the 2024 server acked ones do so too, during the first five minutes of a consumer. When the server
// delivers no more because of the limit, Redrive ends as if none were left; a later Redrive receives the others.
func (c *Client) Redrive(ctx context.Context, stream, consumer string) (Redriven, error) {
	found, err := c.GetConsumer(ctx, stream, consumer)
	if err != nil {
		return Redriven{}, err
	}
	r := &redrive{client: c, stream: stream, consumer: found.ID, ackWait: found.AckWait, batch: redriveFirst,
		appends: map[string]bool{}, left: map[letterID]string{}, reasons: map[string]error{}}
	for more := true; more && err == nil; {
		more, err = r.round(ctx)
	}
	// Nack them even if ctx has ended. They would otherwise not be available until their leases end.
	ids := slices.Collect(maps.Values(r.left))
	err = errors.Join(err, r.settle(context.WithoutCancel(ctx), r.client.returnMessages, ids))
	r.done.Left = len(r.left)
	for _, kind := range slices.Sorted(maps.Keys(r.reasons)) {
		err = errors.Join(err, r.reasons[kind])
	}
	return r.done, err
}

// redriveBatch is how many dead letters are received at once: few enough to be sent one after the other before their leases
// end.
const redriveBatch = 100

// redriveFirst is how many are received first. When the stream turns out not to be one of dead letters, only so many messages were
// leased, and only so many have used up a delivery on a server that counts each.
const redriveFirst = 10

// redrive is one call of Redrive.
type redrive struct {
	client           *Client
	stream, consumer string // of the dead letters
	ackWait          time.Duration
	done             Redriven
	batch            int                 // how many dead letters are received at once
	lost             time.Time           // when the leases of all dead letters in lost or too large answers have ended
	lostInARow       int                 // receives whose answer was lost, since the last one that was not
	stale            int                 // dead letters in the latest answers in a row that held no new one
	appends          map[string]bool     // whether a stream appends, by its name
	found            bool                // a message that was received is a dead letter
	left             map[letterID]string // the ack ids of the messages that could not be sent
	reasons          map[string]error    // why, by stream and type of the error
}

// letterID identifies a dead letter across its deliveries.
type letterID struct {
	key string
	seq int64
}

// letter is a dead letter that was received.
type letter struct {
	DeadMessage
	id    letterID // of the dead letter itself
	ackID string
}

// round receives dead letters and sends the messages in them. more is false when there are no more.
func (r *redrive) round(ctx context.Context) (more bool, err error) {
	got, again, err := r.receive(ctx)
	if again || err != nil {
		return again, err
	}
	streams, byStream, fresh := r.read(got)
	if len(got) > 0 && !r.found {
		return false, nil // the reason says that they are no dead letters
	}
	for _, stream := range streams {
		letters := byStream[stream]
		slices.SortStableFunc(letters, func(a, b letter) int { return cmp.Compare(a.Seq, b.Seq) })
		acks, err := r.send(ctx, stream, letters)
		if settled := r.settle(context.WithoutCancel(ctx), r.client.AckMessages, acks); settled != nil || err != nil {
			return false, errors.Join(err, settled)
		}
	}
	return r.hasMore(ctx, len(got), fresh)
}

// receive receives dead letters. again says that there was no usable answer and that the caller should call again.
//
// The Client retries the request only if the server has surely delivered nothing. After a lost answer the dead letters in
// it are not available until their leases end.
func (r *redrive) receive(ctx context.Context) (got []ReceivedMessage, again bool, err error) {
	got, err = r.client.receive(ctx, r.stream, r.consumer, ReceiveOptions{BatchSize: r.batch}, ifNotActed)
	retry := r.client.cfg.Retry
	switch {
	case errors.Is(err, ErrResponseTooLarge) && r.batch > 1:
		// Most servers have leased the dead letters in the answer. They are redelivered later.
		r.batch, r.lost = r.batch/2, time.Now().Add(r.ackWait)
		return nil, true, nil
	case errors.Is(err, ErrOutcomeUnknown) && classify(err).retryable() && r.lostInARow+1 < retry.MaxAttempts:
		r.lost = time.Now().Add(r.ackWait)
		r.lostInARow++
		return nil, true, pause(ctx, retry.wait(r.lostInARow-1, err))
	case err != nil:
		return nil, false, err
	}
	r.lostInARow = 0
	return got, false, nil
}

// read decodes dead letters, and returns them by the stream that they came from; streams lists these in the order of the
// answer. It leaves out dead letters that were received before and could not be sent, and those that cannot be read. fresh
// reports whether any was received for the first time.
func (r *redrive) read(got []ReceivedMessage) (streams []string, byStream map[string][]letter, fresh bool) {
	byStream = map[string][]letter{}
	for _, m := range got {
		l := letter{id: letterID{m.Key, m.Seq}, ackID: m.AckID}
		if _, again := r.left[l.id]; again {
			r.left[l.id] = l.ackID
			continue
		}
		fresh = true
		switch err := json.Unmarshal([]byte(m.Data), &l.DeadMessage); {
		case err == nil && l.Sink != "":
			r.found = true
			r.leave(l, fmt.Errorf("%w: %q is a change of the sink %q, to which nobody can send; settle it with its consumer", ErrUnsupported,
				clip(m.Key), clip(l.Sink)))
			continue
		case err != nil || l.Stream == "":
			r.leave(letter{id: l.id, ackID: l.ackID}, fmt.Errorf("%w: the message %q of the stream %q", ErrNotDeadLetter, clip(m.Key), r.stream))
			continue
		}
		r.found = true
		if byStream[l.Stream] == nil {
			streams = append(streams, l.Stream)
		}
		byStream[l.Stream] = append(byStream[l.Stream], l)
	}
	return streams, byStream, fresh
}

// hasMore reports whether the consumer may have more dead letters after an answer with got of them. It waits first, if
// some were in an answer that was lost or too large.
//
// When a redrive takes longer than its leases, dead letters that could not be sent are redelivered before others. Answers
// with nothing else do not end the redrive until they have held as many as were left. It then ends, because otherwise it
// would not end at all if one pass over them took longer than a lease.
func (r *redrive) hasMore(ctx context.Context, got int, fresh bool) (more bool, err error) {
	r.stale += got
	switch wait := time.Until(r.lost); {
	case fresh:
		r.stale = 0
		if r.batch == redriveFirst {
			r.batch = redriveBatch
		}
		return true, nil
	case got == r.batch && r.stale <= len(r.left):
		return true, nil
	case wait > 0:
		r.stale = 0
		return true, pause(ctx, wait)
	}
	return false, nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// send sends messages back to one stream, and returns the ack ids of the dead letters that are done. The error is ctx's.
func (r *redrive) send(ctx context.Context, stream string, letters []letter) (acks []string, err error) {
	appends, err := r.streamAppends(ctx, stream)
	if err != nil {
		return r.leaveAll(ctx, letters, err)
	}
	if appends {
		messages := make([]Message, len(letters))
		for i, l := range letters {
			messages[i] = Message{Key: l.Key, Data: l.Data, Headers: l.Headers}
			acks = append(acks, l.ackID)
		}
		switch _, err := r.client.SendMessages(ctx, stream, messages); {
		case err == nil:
			r.done.Sent += len(letters)
			return acks, nil
		case !errors.Is(err, ErrValidation) && !errors.Is(err, ErrTooLarge):
			return r.leaveAll(ctx, letters, err)
		}
		acks = nil // one of the messages was refused, or they are too large together: send each in a request of its own
	}
	for _, l := range letters {
		if ctx.Err() != nil {
			return acks, contextError(ctx)
		}
		if err := r.sendOne(ctx, stream, l, appends); err != nil {
			r.leave(l, err)
			continue
		}
		acks = append(acks, l.ackID)
	}
	return acks, nil
}

// streamAppends reports whether a stream appends. It reads each stream once.
func (r *redrive) streamAppends(ctx context.Context, stream string) (bool, error) {
	if appends, known := r.appends[stream]; known {
		return appends, nil
	}
	found, err := r.client.GetStream(ctx, stream)
	if err != nil {
		return false, err
	}
	r.appends[stream] = found.appends()
	return r.appends[stream], nil
}

// sendOne sends a message back, unless its stream keeps one message per key and has a later one.
func (r *redrive) sendOne(ctx context.Context, stream string, l letter, appends bool) error {
	if !appends {
		there, err := r.client.GetMessage(ctx, stream, l.Key)
		switch {
		case err == nil && there.Seq > l.Seq:
			r.done.Superseded++
			return nil
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
	}
	sent, err := r.client.SendMessages(ctx, stream, []Message{{Key: l.Key, Data: l.Data, Headers: l.Headers}})
	if err == nil && sent.Published == 0 {
		err = ErrUnmodified
	}
	if err == nil {
		r.done.Sent++
	}
	return err
}

// leaveAll leaves dead letters because of err. The error that it returns is ctx's.
func (r *redrive) leaveAll(ctx context.Context, letters []letter, err error) ([]string, error) {
	for _, l := range letters {
		r.leave(l, err)
	}
	return nil, ctx.Err()
}

// leave leaves a dead letter where it is, to be nacked at the end, and keeps err if it is the first of its type for its
// stream or sink.
func (r *redrive) leave(l letter, err error) {
	r.left[l.id] = l.ackID
	kind := fmt.Sprintf("%s %s %T", l.Stream, l.Sink, err)
	if r.reasons[kind] != nil {
		return
	}
	if l.Stream != "" {
		err = fmt.Errorf("sequin: redrive %q into stream %q: %w", clip(l.Key), l.Stream, err)
	}
	r.reasons[kind] = err
}

// returnMessages nacks messages that were not handled. Where the server counts attempts their deliveries do not count.
func (c *Client) returnMessages(ctx context.Context, stream, consumer string, ackIDs []string) error {
	body := settleBody(ackIDs, c.extensions().Has(wire.Attempts), 0)
	return c.settle(ctx, settleRequest(consumerPath(stream, consumer), "nack", body, len(ackIDs), ifFenced))
}

// settle acks or nacks dead letters, at most MaxBatch in a request.
func (r *redrive) settle(ctx context.Context, request func(context.Context, string, string, []string) error, ids []string) error {
	for part := range slices.Chunk(ids, MaxBatch) {
		if err := request(ctx, r.stream, r.consumer, part); err != nil {
			return err
		}
	}
	return nil
}
