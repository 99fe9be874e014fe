package pgcheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin"
)

const (
	// ackWait is short, so that what a dead replica or a lost answer has left on lease comes again soon.
	ackWait = 2 * time.Second
	// keysOfSender is how many keys a sender has for itself, so that it knows the order of their versions.
	keysOfSender = 25
	senders      = 4
	workers      = 4
	consumerName = "c"
)

// load sends to a stream and consumes it, and keeps account.
type load struct {
	account *account
	client  *sequin.Client // a receive has one attempt, so that its time is known
	pub     *sequin.Publisher
	now     func() time.Duration
	drains  atomic.Bool // everything that is received is acked
	errors  atomic.Int64
}

// newLoad makes the stream and its consumer.
func newLoad(ctx context.Context, name string, keyed bool, client *sequin.Client, now func() time.Duration) (*load, error) {
	if _, err := client.CreateStream(ctx, name, sequin.StreamOptions{OneMessagePerKey: keyed}); err != nil {
		return nil, err
	}
	if _, err := client.CreateConsumer(ctx, name, consumerName, ">", sequin.ConsumerOptions{AckWait: ackWait, MaxAckPending: 10_000}); err != nil {
		return nil, err
	}
	pub, err := client.NewPublisher(name, sequin.PublisherConfig{})
	if err != nil {
		return nil, err
	}
	return &load{account: newAccount(name, keyed, ackWait), client: client, pub: pub, now: now}, nil
}

// send sends the next versions of keys until ctx ends. Each batch is awaited, and sent again until it is stored.
func (l *load) send(ctx context.Context, sender int) {
	for ctx.Err() == nil {
		var batch []sequin.Message
		var versions []int
		first := rand.N(keysOfSender)
		for i := range 1 + rand.N(10) {
			key := fmt.Sprintf("k.%d.%d", sender, (first+i)%keysOfSender)
			if !l.account.keyed && i > 0 && rand.N(3) == 0 {
				key = batch[i-1].Key // several versions in one request
			}
			versions = append(versions, l.account.sending(key))
			batch = append(batch, sequin.Message{Key: key, Data: strconv.Itoa(versions[i])})
		}
		if err := l.pub.SendAllSync(context.WithoutCancel(ctx), batch); err != nil {
			l.errors.Add(1) // in doubt
			continue
		}
		at := l.now()
		for i, m := range batch {
			l.account.sent(m.Key, versions[i], at)
		}
		pause(ctx, rand.N(60*time.Millisecond))
	}
}

// consume receives, acks about 80 of 100 messages, nacks 17, and forgets 3.
func (l *load) consume(ctx context.Context) {
	for ctx.Err() == nil {
		began := l.now()
		got, err := l.client.ReceiveMessages(ctx, l.account.name, consumerName, sequin.ReceiveOptions{BatchSize: 1 + rand.N(50), WaitFor: 500 * time.Millisecond})
		ended := l.now()
		if err != nil {
			l.errors.Add(1)
			pause(ctx, 20*time.Millisecond)
			continue
		}
		var all, acks, nacks []*delivery
		var ackIDs, nackIDs []string
		for _, m := range got {
			version, err := strconv.Atoi(m.Data)
			if err != nil {
				version = -1
			}
			d := &delivery{key: m.Key, version: version, began: began, ended: ended}
			all = append(all, d)
			switch n := rand.N(100); {
			case n < 80 || l.drains.Load():
				acks, ackIDs = append(acks, d), append(ackIDs, m.AckID)
			case n < 97:
				nacks, nackIDs = append(nacks, d), append(nackIDs, m.AckID)
			}
		}
		l.account.received(all)
		pause(ctx, rand.N(30*time.Millisecond))
		ctx := context.WithoutCancel(ctx)
		l.settle(acks, true, func() error { return l.client.AckMessages(ctx, l.account.name, consumerName, ackIDs) })
		l.settle(nacks, false, func() error { return l.client.NackMessages(ctx, l.account.name, consumerName, nackIDs) })
	}
}

func (l *load) settle(all []*delivery, ack bool, call func() error) {
	if len(all) == 0 {
		return
	}
	now := l.now()
	l.account.settle(all, ack, now, 0)
	if err := call(); err != nil {
		l.errors.Add(1)
		return
	}
	l.account.settle(all, ack, now, l.now())
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// stored compares what the stream has with the account.
func (l *load) stored(ctx context.Context) (faults []string, err error) {
	found := map[string][]int{}
	for m, err := range l.client.AllMessages(ctx, l.account.name, sequin.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		version, err := strconv.Atoi(m.Data)
		if err != nil {
			return nil, err
		}
		found[m.Key] = append(found[m.Key], version)
	}
	return l.account.checkStored(found), nil
}

// unsettled returns the messages that the consumer has not settled at the end. There should be none.
func (l *load) unsettled(ctx context.Context) (faults []string, err error) {
	views, err := l.client.PeekMessages(ctx, l.account.name, consumerName, sequin.ListOptions{})
	for _, v := range views {
		faults = append(faults, fmt.Sprintf("%s, key %s: version %s is not settled at the end", l.account.name, v.Message.Key, v.Message.Data))
	}
	return faults, err
}
