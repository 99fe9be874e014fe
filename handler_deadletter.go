package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
)

// DeadLetter says where messages go that their handler cannot handle: to another stream, each as a [DeadMessage], and
// only once that has been confirmed is the original acked. Where it cannot be sent, because the other stream is away or
// refuses it, or half of MaxInFlight is on its way there, the original is held back, comes again, and OnError is told each
// time: nothing is lost, and nothing is acked that lies nowhere else. See [Client.Redrive] for the way back.
//
// It takes the place of the consumer's max_deliver, and does not go together with it: a server that stops delivering
// leaves nothing to send.
type DeadLetter struct {
	// Stream is the name or id of the stream for dead letters; not the one that they come from.
	Stream string
	// MaxAttempts is how often the handler may fail for a version of a message, counted by this process, for the 10,000
	// messages that failed last. Where the server tells a delivery's Attempt, and the stream appends, a message that was
	// delivered more than three times as often, not counting what its handler in this process returned from in time, goes
	// without another try: it may be what kills the others. Default 5.
	MaxAttempts int
	// Key makes the key of a dead letter. Default dead.<consumer>.<a new UUID>, so that none replaces another. Where it
	// panics there is no dead letter, and the message is held back.
	Key func(Delivery) string
}

// defaultMaxAttempts lasts, with default backoff, for some ten seconds: a restart of what the handler needs.
const defaultMaxAttempts = 5

// deliveriesAnAttempt is how many deliveries are allowed for each of MaxAttempts. Not all of them reach a handler, and
// each process counts its own.
const deliveriesAnAttempt = 3

func (c DeadLetter) withDefaults() DeadLetter {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = defaultMaxAttempts
	}
	return c
}

func (c DeadLetter) validate(s *Subscriber) error {
	o := s.origin
	switch {
	case checkName("stream", c.Stream) != nil || c.Stream == o.stream.Name || c.Stream == o.stream.ID:
		return fmt.Errorf("%w: DeadLetter.Stream is %q, must name another stream than that of the messages", ErrInvalidConfig, c.Stream)
	case c.MaxAttempts < 1:
		return fmt.Errorf("%w: DeadLetter.MaxAttempts is %d, must be at least 1", ErrInvalidConfig, c.MaxAttempts)
	case o.consumer.MaxDeliver != Unlimited:
		return fmt.Errorf("%w: DeadLetter with a consumer whose max_deliver is %d: the server would stop delivering before the policy ends; "+
			"set ConsumerOptions.MaxDeliver to Unlimited", ErrInvalidConfig, o.consumer.MaxDeliver)
	}
	return nil
}

// DeadMessage is what the data of a dead letter holds, as JSON: a message that could not be handled, and why.
type DeadMessage struct {
	// Stream and Consumer are the names of where the message came from.
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Key, Data and Seq are the message's own.
	Key  string `json:"key"`
	Data string `json:"data"`
	Seq  int64  `json:"seq"`
	// Attempts counts the failures of the handler or, for a message that was delivered too often, its deliveries.
	Attempts     int       `json:"attempts"`
	FirstFailure time.Time `json:"first_failure"`
	LastFailure  time.Time `json:"last_failure"`
	// Error is the text of the last failure, of 4 KiB at most.
	Error string `json:"error"`
}

// deadLetters sends a pool's dead letters, in the background, by a Publisher of its own.
type deadLetters struct {
	pool *handlerPool
	cfg  DeadLetter
	pub  *Publisher
}

func newDeadLetters(p *handlerPool) (*deadLetters, error) {
	// Room for more than may be on its way, so that a worker never waits for a stream that is away.
	pub, err := p.sub.client.NewPublisher(p.cfg.DeadLetter.Stream, PublisherConfig{MaxBuffered: p.sub.cfg.MaxInFlight})
	if err != nil {
		return nil, err
	}
	return &deadLetters{pool: p, cfg: *p.cfg.DeadLetter, pub: pub}, nil
}

// takes reports whether a delivery belongs to the dead letters without another try.
func (dl *deadLetters) takes(d Delivery) bool {
	r := dl.pool.history.of(d)
	// What this process has seen did not kill it, and may have been another's fault.
	most := deliveriesAnAttempt*dl.cfg.MaxAttempts + r.failures + r.waits
	switch {
	case r.buried: // but the ack came too late, or was lost
		dl.ack(d)
		dl.pool.slowDown([]Delivery{d}, false, true, time.Now())
		return true
	case !r.doomed && (d.Attempt <= most || !dl.pool.sub.origin.stream.appends()):
		return false
	case !r.doomed:
		now := time.Now()
		r = dl.pool.history.update(d, func(r *record) {
			if r.failures == 0 {
				r.first, r.last = now, now
				r.text = fmt.Sprintf("delivered %d times and never settled: it may end the process that handles it", d.Attempt)
			}
			r.attempts, r.doomed = d.Attempt, true
		})
	}
	dl.send(d, r)
	dl.pool.slowDown([]Delivery{d}, false, true, time.Now()) // its handler was not asked; where it was held back, that was told
	return true
}

// send puts a dead letter on its way. One whose lease is over waits for the next delivery: it could not be acked.
func (dl *deadLetters) send(d Delivery, r record) {
	l := d.state.lease
	if past(time.Now(), l.deadline) {
		return
	}
	m, err := dl.letter(d, r)
	if err == nil && !dl.pool.sub.takePlace() {
		err = errNoRoom
	}
	if err != nil {
		dl.heldBack(d, err)
		return
	}
	t := dl.pool.setOut(d, 1, dl.arrived)
	if t == nil {
		dl.pool.sub.freePlace()
		return
	}
	if err := dl.pub.admitFor(context.Background(), l, m, t, false); err != nil {
		t.end(1, err)
	}
}

// errNoRoom is the reason of a dead letter that has to wait for others.
var errNoRoom = errors.New("sequin: too many dead letters are on their way")

func (dl *deadLetters) letter(d Delivery, r record) (Message, error) {
	var data strings.Builder
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false) // it would make 6 bytes of a < and with that a large message too large
	o := dl.pool.sub.origin
	err := enc.Encode(DeadMessage{Stream: o.stream.Name, Consumer: o.consumer.Name, Key: d.Key, Data: d.Data, Seq: d.Seq,
		Attempts: r.attempts, FirstFailure: r.first.UTC(), LastFailure: r.last.UTC(), Error: r.text})
	if err != nil {
		return Message{}, err
	}
	key, err := dl.key(d)
	return Message{Key: key, Data: strings.TrimSuffix(data.String(), "\n")}, err
}

func (dl *deadLetters) key(d Delivery) (key string, err error) {
	if dl.cfg.Key != nil {
		defer func() {
			if crash := recovered("DeadLetter.Key", recover()); crash != nil {
				err = crash
			}
		}()
		return dl.cfg.Key(d), nil
	}
	key = "dead." + dl.pool.sub.origin.consumer.Name + "." + uuid.NewString()
	if _, err := checkKey(key); err != nil {
		key = "dead." + dl.pool.sub.origin.consumer.ID + "." + uuid.NewString()
	}
	return key, nil
}

// heldBack keeps an original whose dead letter could not be sent. When its lease is over it comes again by itself.
func (dl *deadLetters) heldBack(d Delivery, err error) {
	_ = d.NackAfter(dl.pool.cfg.BackoffMax)
	dl.pool.slowDown([]Delivery{d}, dl.pool.sub.placesFull(), !dl.pool.sub.placesFull(), time.Now())
	dl.pool.logError(slog.LevelError, "could not send a dead letter, and keeps the message", d, err, "to", dl.cfg.Stream)
	dl.pool.report(d, fmt.Errorf("sequin: dead letter of %q to stream %q: %w", clip(d.Key), dl.cfg.Stream, err))
}

func (dl *deadLetters) ack(d Delivery) {
	if err := d.Ack(); err != nil && !errors.Is(err, ErrSettled) {
		dl.pool.report(d, err)
	}
}

// close drops what could not be sent: its originals were not acked, and come again.
func (dl *deadLetters) close() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = dl.pub.Close(over)
}

// arrived is told what became of a dead letter. That it was sent is remembered, so that an ack that comes too late, or is
// lost, does not make a second one.
func (dl *deadLetters) arrived(d Delivery, err error) {
	dl.pool.sub.freePlace()
	if err != nil {
		dl.heldBack(d, err)
		return
	}
	dl.pool.history.update(d, func(r *record) { r.buried = true })
	dl.pool.sub.log(slog.LevelWarn, "has sent a message to the dead letters", "key", clip(d.Key), "to", dl.cfg.Stream)
	dl.ack(d)
}
