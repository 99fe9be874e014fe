package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// schedule is all that a run is told: who does what when, and what goes wrong. It is data, so that it can be printed and
// shrunk. Times count from the run's begin.
type schedule struct {
	Seed       uint64
	Mode       server.Compat
	Stream     sequin.StreamOptions
	Consumers  []consumerPlan
	Publishers []publisherPlan
	Workers    []workerPlan
	Faults     []faultPlan
}

// consumerPlan is a consumer of the one stream.
type consumerPlan struct {
	Filter     string
	AckWait    time.Duration
	MaxDeliver int
}

// publisherPlan is a program that sends.
type publisherPlan struct {
	Start     time.Duration
	Timeout   time.Duration // Config.Timeout
	Config    sequin.PublisherConfig
	OnFailure bool
	Steps     []step
}

// step is one thing that a publisher does.
type step struct {
	Pause    time.Duration // before
	Do       stepKind
	N        int           // messages
	Keys     int           // over so many keys
	Size     int           // of their data, about
	Poison   bool          // the last one is what a poison fault is waiting for
	Patience time.Duration // of the ctx
}

type stepKind uint8

const (
	send stepKind = iota
	trySend
	sendReceipt
	sendSync
	flush
	restart // Close, and another Publisher that sends what was left first
)

func (k stepKind) String() string {
	return [...]string{"Send", "TrySend", "SendReceipt", "SendSync", "Flush", "restart"}[k]
}

// workerPlan is a program that receives.
type workerPlan struct {
	Consumer int
	Start    time.Duration
	Timeout  time.Duration // Config.Timeout
	Config   sequin.SubscriberConfig
	Handle   bool // by Subscriber.Handle, with so many workers as there would be readers
	Batch    int  // with Handle: by HandleBatch, of so many at most; 0 is one by one
	Readers  int  // goroutines that range over the channel
	Habits   habits
	End      endKind
	EndAt    time.Duration // after Start
	Patience time.Duration // of Close's ctx
}

// habits are what a worker does with a delivery, in percent; the rest is acked. A handler of Handle fails where others
// nack, and panics where others forget.
type habits struct {
	AckSync, Nack, NackAfter, Forget, Overrun, Twice int
	Work                                             time.Duration // before it settles, at most
}

type endKind uint8

const (
	survive endKind = iota // works until everything is done
	closed
	cancelled
	vanish // its connections end, and nothing more is heard of it
)

func (k endKind) String() string { return [...]string{"survive", "Close", "cancel", "vanish"}[k] }

// faultPlan is what goes wrong for a while.
type faultPlan struct {
	At, For time.Duration
	Kind    faultKind
	Op      sequintest.Op // that it strikes
	Every   int           // it strikes every so-manieth request
	Delay   time.Duration
}

type faultKind uint8

const (
	away      faultKind = iota // refuses connections, and comes back with its data
	cutAll                     // breaks the connections there are, once
	cutBefore                  // the server did not act
	cutAfter                   // it did
	truncate
	garble
	slow       // the answer comes late, or not within the time-out
	slowToAct  // so does the acting
	timeout408 // by the server, which did not act
	lost504    // by a proxy; the server acted
	limited    // 429
	limited5   // 429 with Retry-After: 5
	crash      // a bare 500; the server did not act
	crashed    // a bare 500; the server acted
	html502
	busy503
	full      // 409, to sends
	forbidden // 403, to sends
	gone404   // of a proxy, in HTML, to receives
	tooLarge  // 413, to sends over 2 KB, without end
	poison400 // to sends with poison in them, without end
	poison500
)

var faultNames = [...]string{"away", "cut all", "cut before", "cut after", "truncate", "garble", "slow", "slow to act", "408",
	"504 acted", "429", "429 retry-after", "bare 500", "bare 500 acted", "502 html", "503", "409", "403", "404 html",
	"413", "poison 400", "poison 500"}

func (k faultKind) String() string { return faultNames[k] }

// String shows everything, a line for each part.
func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s, stream %+v\n", s.Seed, s.Mode, s.Stream)
	for i, c := range s.Consumers {
		fmt.Fprintf(&b, "  consumer c%d: %+v\n", i, c)
	}
	for i, p := range s.Publishers {
		c := p.Config
		fmt.Fprintf(&b, "  publisher p%d: start %v, timeout %v, lanes %d, batch %d, buffered %d, linger %v, retry for %v, OnFailure %v\n",
			i, p.Start, p.Timeout, c.Lanes, c.MaxBatch, c.MaxBuffered, c.Linger, c.RetryFor, p.OnFailure)
		for _, st := range p.Steps {
			fmt.Fprintf(&b, "    %+v\n", st)
		}
	}
	for i, w := range s.Workers {
		c := w.Config
		fmt.Fprintf(&b, "  worker w%d of c%d: start %v, timeout %v, in flight %d, pollers %d, wait %v, margin %v, drain %v, Handle %v, batch %d, %d readers, %+v, %v at %v with %v\n",
			i, w.Consumer, w.Start, w.Timeout, c.MaxInFlight, c.Pollers, c.WaitFor, c.LeaseMargin, c.DrainTimeout, w.Handle, w.Batch, w.Readers, w.Habits, w.End, w.EndAt, w.Patience)
	}
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  fault %+v\n", f)
	}
	return b.String()
}

// keyOf names the i-th key: three groups, for filters to tell apart.
func keyOf(i int) string { return fmt.Sprintf("%c.%d", 'a'+rune(i%3), i/3) }

// poison is what poison faults look for, in the data of a step's last message.
const poison = "poison"
