package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// ledger is what happened in a run, as it was noted. What follows from it is history's to say.
type ledger struct {
	s     schedule
	begin time.Time

	mu         sync.Mutex // guards all below; held for noting only
	messages   []*message
	handed     []*handed
	calls      []*call
	endings    int
	stops      []stop
	totals     []publisherTotals
	rooms      []room
	absences   []span
	violations []violation
	complete   bool // the run came to its end

	// Of the server, when all was over.
	requests []sequintest.Request
	final    server.StreamState
}

// message is one that a program asked a Publisher to take. Its id is part of its data.
type message struct {
	publisher string // with its incarnation
	id        string
	key, data string
	n         int       // in the order of asking, over all of this incarnation
	at, took  time.Time // when the program asked, and when it had its answer
	accepted  bool
	doubtful  bool // SendSync's ctx ended: it may have been accepted
	receipt   *sequin.Receipt
	resent    bool // what an incarnation before had left
	fates     []fate
}

// fate is one report of how a message ended.
type fate struct {
	kind fateKind
	by   string // who told
	err  error
}

type fateKind uint8

const (
	sent fateKind = iota
	failed
	unsent
)

func (k fateKind) String() string { return [...]string{"sent", "failed", "unsent"}[k] }

// handed is a delivery that a program took from the channel.
type handed struct {
	worker, consumer string
	sequin.Delivery
	at      time.Time
	settles []settled
	told    error // by OnAckError
}

// settled is a settle that a program asked for.
type settled struct {
	kind      sequin.SettlementKind
	sync      bool
	at, ended time.Time
	err       error
}

// stop is a worker's or publisher's end.
type stop struct {
	actor     string
	how       endKind
	asked, at time.Time // when it was asked to stop, and when it had
	err       error
}

type publisherTotals struct {
	publisher string
	stats     sequin.PublisherStats
}

// room is what a Subscriber says to hold when there is nothing to hold any more.
type room struct {
	worker string
	stats  sequin.SubscriberStats
}

type span struct{ from, to time.Time }

func newLedger(s schedule) *ledger { return &ledger{s: s} }

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *ledger) violate(promise, format string, args ...any) {
	l.note(func() {
		l.violations = append(l.violations, violation{promise: promise, text: fmt.Sprintf(format, args...)})
	})
}

func (l *ledger) began(c *call) *call {
	c.began = time.Now()
	l.note(func() { l.calls = append(l.calls, c) })
	return c
}

func (l *ledger) ended(c *call) {
	c.ended = time.Now()
	l.note(func() { l.endings++; c.order = l.endings })
}

func (l *ledger) awaySince(t time.Time) {
	l.note(func() { l.absences = append(l.absences, span{from: t}) })
}

func (l *ledger) backSince(t time.Time) {
	l.note(func() { l.absences[len(l.absences)-1].to = t })
}
