package load

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// retryFor is how long the server may be away before a message fails, and with it the measurement.
const retryFor = time.Minute

// publishers send the messages 0 to n-1 of a part. The key of each is its own: the part and its number.
type publishers struct {
	of   *run
	part Part
	n    int
	wrap func(http.RoundTripper) http.RoundTripper
	due  func(i int) time.Time // when a message is to be sent; nil for at once

	mu      sync.Mutex // guards running
	running []*sequin.Publisher
}

func (r *run) measurePublish(ctx context.Context) (Result, error) {
	var watch stopwatch
	p := &publishers{of: r, part: Publish, n: r.Messages, wrap: watch.wrap}
	stop := r.Progress(Publish, p.n, p.done)
	defer stop()
	began := time.Now()
	if err := p.publish(ctx); err != nil {
		return Result{}, err
	}
	return Result{Part: Publish, Messages: p.n, Clients: r.Publishers, Took: time.Since(began), Latencies: watch.sorted()}, nil
}

// publish returns when the server has every message.
func (p *publishers) publish(ctx context.Context) error {
	return each(ctx, p.of.Publishers, p.publishShare)
}

// publishShare sends the messages of one Publisher.
func (p *publishers) publishShare(ctx context.Context, first int) error {
	client, disconnect, err := p.of.Connect(p.wrap)
	if err != nil {
		return err
	}
	defer disconnect()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	pub, err := client.NewPublisher(p.of.Stream, sequin.PublisherConfig{
		RetryFor:  retryFor,
		OnFailure: func(e sequin.MessageError) { fail(e) },
	})
	if err != nil {
		return err
	}
	p.add(pub)
	for i := first; i < p.n && err == nil; i += p.of.Publishers {
		if p.due != nil {
			sleepUntil(ctx, p.due(i))
		}
		err = pub.Send(ctx, key(p.part, i), p.of.data)
	}
	closed := pub.Close(ctx)
	if failure := context.Cause(ctx); failure != nil {
		return failure // the others say that ctx has ended
	}
	return errors.Join(err, closed)
}

func (p *publishers) add(pub *sequin.Publisher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, pub)
}

// done returns how many messages the server has.
func (p *publishers) done() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pub := range p.running {
		n += int64(pub.Stats().Sent)
	}
	return n
}

// key returns the key of message i of a part.
func key(part Part, i int) string { return string(part) + "." + strconv.Itoa(i) }

// sleepUntil waits until then, or until ctx ends.
func sleepUntil(ctx context.Context, then time.Time) {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
