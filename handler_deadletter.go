package sequin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
)

// deliveriesPerTry is how many deliveries a message may have for each of MaxAttempts. It is more than one, because not every
// delivery reaches a handler, and each process counts only its own handler calls.
const deliveriesPerTry = 3

// DeadMessage is the data of a dead letter, as JSON: the message that could not be handled, and its last error.
type DeadMessage struct {
	// Stream and Consumer are the names of the stream and the consumer that delivered the message. They are empty for a change
	// of a sink, whose name is in Sink. Redrive leaves such a dead letter where it is, because nobody can send to a sink.
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	Sink     string `json:"sink,omitempty"`
	// Key, Data, Headers and Seq are those of the message. The dead letter itself has no headers.
	Key     string            `json:"key"`
	Data    string            `json:"data"`
	Headers map[string]string `json:"headers,omitempty"`
	Seq     int64             `json:"seq"`
	// Attempts counts the handler calls that failed or, for a message that was delivered too often, its deliveries.
	Attempts     int       `json:"attempts"`
	FirstFailure time.Time `json:"first_failure"`
	LastFailure  time.Time `json:"last_failure"`
	// Error is the text of the last failure, cut to 4 KiB.
	Error string `json:"error"`
}

// deadLetters sends the dead letters of a pool in the background, with its own Publisher.
type deadLetters struct {
	pool *handlerPool
	cfg  DeadLetter
	pub  *Publisher
}

// client returns the Client that sends the dead letters of a Subscriber.
func (c DeadLetter) client(s *Subscriber) *Client { return cmp.Or(c.Client, s.client) }

func newDeadLetters(p *handlerPool) (*deadLetters, error) {
	// The buffer has room for more dead letters than may be in flight, so that a worker never waits for the dead-letter
	// stream.
	pub, err := p.cfg.DeadLetter.client(p.sub).NewPublisher(p.cfg.DeadLetter.Stream, PublisherConfig{MaxBuffered: p.sub.cfg.MaxInFlight})
	if err != nil {
		return nil, err
	}
	return &deadLetters{pool: p, cfg: *p.cfg.DeadLetter, pub: pub}, nil
}

// deadLetterStreamTimeout is how long the start of the handlers waits for the answer about the dead-letter stream. It is
// short, because the leases of the buffered deliveries run during the wait. A call to a server that refuses connections
// waits equally long.
const deadLetterStreamTimeout = 2 * time.Second

// findDeadLetterStream returns an error if the stream for dead letters does not exist. Without this check a wrong name would
// be noticed with the first dead letter, perhaps weeks later, and its message would be redelivered for ever. Only a 404 of
// the server itself proves that the stream does not exist. After any other outcome the handlers start.
func findDeadLetterStream(ctx context.Context, c *Client, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, deadLetterStreamTimeout)
	defer cancel()
	_, err := callOnce[Stream](ctx, c, path("api", "streams", stream))
	if errors.Is(err, ErrNotFound) { // a 404 of an ingress is not an ErrNotFound
		return fmt.Errorf("sequin: DeadLetter.Stream %q does not exist; create it before the handlers start: %w", stream, err)
	}
	return nil
}

// decide returns the verdict on a delivery whose handler may be called. It changes nothing.
func (dl *deadLetters) decide(d Delivery) verdict {
	r := dl.pool.sub.failures.Get(failureID(d))
	switch {
	case r.LetterSent: // the ack came too late or was lost
		return ackOnly
	case r.Dead || dl.deliveredTooOften(d, r):
		return sendDeadLetter
	}
	return callHandler
}

// deliveredTooOften reports whether a message has been delivered so often that it may crash its worker (poison message).
//
// Where the server counts attempts, programs have worked on it MaxAttempts times. Anywhere else it has been delivered a multiple
// of that, because not every delivery reaches a handler.
// It is false for a message that a handler of this process has returned from: it crashed nothing, and several processes may
// have snoozed it in turn. A process that did crash has no record of it.
func (dl *deadLetters) deliveredTooOften(d Delivery, r failurelog.Record) bool {
	if n := d.attempts(); n > 0 {
		return n-1-r.Survived >= dl.cfg.MaxAttempts
	}
	return d.Attempt > deliveriesPerTry*dl.cfg.MaxAttempts && r.Failures+r.Survived == 0 && dl.pool.sub.origin.stream.appends()
}

// suspectAfter is how many leases of a message must have expired without a sign of a program before its calls are announced. One
// crash of a process expires the leases of all that is in its buffer, and announcing each of these would take a request. In a
// Pipe the leases of messages also expire while the target is unavailable.
func (dl *deadLetters) suspectAfter() int {
	if dl.pool.pass != nil {
		return deliveriesPerTry * dl.cfg.MaxAttempts
	}
	return 2
}

// announceCalls tells the server that handlers are about to work on messages that may have crashed processes before, so that
// another crash counts as an attempt at these, and not at what waits in a buffer. An extension of the lease tells it. It
// returns the deliveries that handlers may be called with; the leases of the others are over.
func (dl *deadLetters) announceCalls(batch []Delivery) (known []Delivery) {
	var suspects []*lease.Held
	enough := dl.suspectAfter()
	for _, d := range batch {
		if d.state.counts() && d.state.expired() >= enough {
			suspects = append(suspects, d.state.Hold(d.AckID))
		}
	}
	if len(suspects) == 0 {
		return batch
	}
	sub := dl.pool.sub
	errs := sub.settler.extender().ExtendAll(sub.hard, min(sub.terms.Load().AckWait, MaxExtension), suspects...)
	known = batch[:0]
	for _, d := range batch {
		if len(suspects) > 0 && d.state.held.Load() == suspects[0] {
			err := errs[0]
			suspects, errs = suspects[1:], errs[1:]
			if err != nil {
				sub.returnFromHandler(d)
				dl.pool.inconclusive([]Delivery{d}, time.Now())
				continue
			}
		}
		known = append(known, d)
	}
	return known
}

// sendUnhandled sends a dead letter for a delivery whose handler is not called again.
func (dl *deadLetters) sendUnhandled(d Delivery) {
	r := dl.pool.sub.failures.Get(failureID(d))
	if !r.Dead {
		now := time.Now()
		r = dl.pool.sub.failures.Update(failureID(d), func(r *failurelog.Record) {
			if r.Failures == 0 {
				r.First, r.Last = now, now
				r.Text = fmt.Sprintf("delivered %d times and never settled: it may end the process that handles it", d.Attempt)
			}
			r.Deliveries, r.Dead = d.Attempt, true
		})
	}
	dl.send(d, r, directly)
}

// send passes a dead letter to the Publisher. If the lease is over it does nothing, because the original could not be acked
// and is redelivered. tell is that of notSent.
func (dl *deadLetters) send(d Delivery, r failurelog.Record, tell func(func())) {
	l := d.state.Lease()
	if lease.Past(time.Now(), l.Deadline) {
		return
	}
	m, err := dl.letter(d, r)
	if err == nil && !dl.pool.sub.takePlace() {
		err = errNoRoom
	}
	if err != nil {
		dl.notSent(d, err, tell)
		return
	}
	out := dl.pool.outputs.Begin(failureID(d), d, 1, dl.ended)
	if out == nil {
		dl.pool.sub.freePlace()
		return
	}
	if err := dl.pub.admitFor(context.Background(), l, m, out, false); err != nil {
		out.End(1, err)
	}
}

// errNoRoom is the error of a dead letter that must wait until others have been sent.
var errNoRoom = errors.New("sequin: too many dead letters are in flight")

// letter makes the dead letter of a delivery.
func (dl *deadLetters) letter(d Delivery, r failurelog.Record) (Message, error) {
	var data strings.Builder
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false) // escaped, each < has 6 bytes, and a large message could become too large
	o := dl.pool.sub.origin
	err := enc.Encode(DeadMessage{Stream: o.stream.Name, Consumer: o.consumer.Name, Sink: o.sink, Key: d.Key, Data: d.Data, Headers: d.Headers, Seq: d.Seq,
		Attempts: cmp.Or(r.Deliveries, r.Tries), FirstFailure: r.First.UTC(), LastFailure: r.Last.UTC(), Error: r.Text})
	if err != nil {
		return Message{}, err
	}
	key, err := dl.key(d)
	return Message{Key: key, Data: strings.TrimSuffix(data.String(), "\n")}, err
}

func (dl *deadLetters) key(d Delivery) (key string, err error) {
	if dl.cfg.Key != nil {
		defer func() {
			if panicked := recovered("DeadLetter.Key", recover()); panicked != nil {
				err = panicked
			}
		}()
		return dl.cfg.Key(d), nil
	}
	o := dl.pool.sub.origin
	key = "dead." + cmp.Or(o.sink, o.consumer.Name) + "." + uuid.NewString()
	if _, err := checkKey(key); err != nil {
		key = "dead." + cmp.Or(o.consumer.ID, "sink") + "." + uuid.NewString()
	}
	return key, nil
}

// ended settles the original of a dead letter that was confirmed or failed. A confirmed one is recorded, so that no
// second one is sent if the ack comes too late or is lost.
func (dl *deadLetters) ended(d Delivery, err error) {
	dl.pool.sub.freePlace()
	if err != nil {
		dl.notSent(d, err, dl.pool.aside.Go)
		return
	}
	dl.pool.sub.failures.Update(failureID(d), func(r *failurelog.Record) { r.LetterSent = true })
	dl.pool.sub.log.Add(slog.LevelWarn, "sent a message to the dead letters", "key", clip(d.Key), "to", dl.cfg.Stream)
	dl.pool.ack(d, dl.pool.reportAside)
}

// notSent nacks the original of a dead letter that could not be sent. If the lease is over the original is redelivered
// without a nack. tell runs what calls OnError and the log: see handlerPool.failed.
func (dl *deadLetters) notSent(d Delivery, err error, tell func(func())) {
	p := dl.pool
	// The server must not count up to a max_deliver, because it then drops the message. Without one, other processes learn from
	// the count that the message needs no call.
	p.sub.settler.retry(d, p.cfg.BackoffMax, p.sub.origin.consumer.MaxDeliver == Unlimited)
	if now := time.Now(); p.sub.placesTaken() {
		p.callFailed([]Delivery{d}, true, now)
	} else {
		p.inconclusive([]Delivery{d}, now)
	}
	tell(func() {
		p.logError(slog.LevelError, "could not send a dead letter, and keeps the message", d, err, "to", dl.cfg.Stream)
		p.report(d, fmt.Errorf("sequin: dead letter of %q to stream %q: %w", clip(d.Key), dl.cfg.Stream, err))
	})
}

// close drops the dead letters that could not be sent. Their originals were not acked, and are redelivered.
func (dl *deadLetters) close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = dl.pub.Close(ended)
}

// placesTaken reports whether no more nacks can be delayed.
func (s *Subscriber) placesTaken() bool { return s.ledger.PlacesTaken() }

// takePlace reserves a place for a dead letter. It reports false if dead letters hold all the places.
func (s *Subscriber) takePlace() bool {
	if !s.ledger.TakePlace() {
		return false
	}
	s.wake() // a delayed nack may be due now
	return true
}

// freePlace frees the place of a dead letter, whether or not it was sent.
func (s *Subscriber) freePlace() { s.ledger.FreePlace() }
