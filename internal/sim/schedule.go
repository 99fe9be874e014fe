package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// schedule describes a run: what each program does and when, and what goes wrong. It is data, so that it can be printed and
// shrunk. Times count from the begin of the run.
type schedule struct {
	Seed       uint64
	Mode       server.Compat
	Sinks      bool      // the consumers are sinks, and the publishers change the rows of their table; the mode is Documented
	Store      OpenStore // nil for the store in memory
	Without    []string  // the extensions that the server does not have
	Stream     sequin.StreamOptions
	Consumers  []consumerPlan
	Publishers []publisherPlan
	Workers    []workerPlan
	Purges     []purgePlan
	Faults     []faultPlan
}

// consumerPlan is a consumer of the stream. Each run has one stream.
type consumerPlan struct {
	Filter     string
	AckWait    time.Duration
	MaxDeliver int
	StartUp    time.Duration // of a sink: how long it answers 500 after a restart
}

// publisherPlan is a program that sends.
type publisherPlan struct {
	Start     time.Duration
	Timeout   time.Duration // Config.Timeout
	Config    sequin.PublisherConfig
	OnFailure bool
	Steps     []step
}

// step is one action of a publisher.
type step struct {
	Pause    time.Duration // before the action
	Do       stepKind
	N        int           // how many messages
	Keys     int           // how many keys they have
	Size     int           // about how many bytes of data each has
	Poison   bool          // the last one is a poison message
	Headers  bool          // each has headers
	Patience time.Duration // the time-out of the ctx
}

type stepKind uint8

const (
	send stepKind = iota
	trySend
	sendReceipt
	sendSync
	flush
	restart // Close, and a new Publisher that first sends the unsent messages
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
	SaidWait time.Duration // of a sink: the AckWait that it says, at most that of the sink
	Handle   bool          // it uses Subscriber.Handle, with Readers workers
	Batch    int           // with Handle: the largest batch of HandleBatch; 0 uses Handle
	Readers  int           // goroutines that range over the channel
	Habits   habits
	End      endKind
	EndAt    time.Duration // after Start
	Patience time.Duration // the time-out of Close's ctx
}

// habits is how a worker settles deliveries, in percent of them; it acks the rest. Forget settles nothing, Overrun settles
// after the deadline, Extend extends the lease and acks after the first deadline, and Twice acks and then nacks. A handler
// returns an error for Nack and panics for Forget; its lease is extended by itself.
type habits struct {
	AckSync, Nack, NackAfter, Forget, Overrun, Twice, Extend int
	Work                                                     time.Duration // the longest time that it works before it settles
}

type endKind uint8

const (
	survive endKind = iota // it works until every message is delivered
	closed
	cancelled
	killed // its client is disconnected, as by the end of its process
)

func (k endKind) String() string { return [...]string{"survive", "Close", "cancel", "killed"}[k] }

// The extensions of the embedded server.
const (
	fencedAcks = "fenced-acks" // an ack id belongs to one delivery
	parts      = "parts"       // a part of a send that was stored is not stored again
	nackDelay  = "nack-delay"  // the server keeps nacked messages back
	extend     = "extend"      // leases can be extended
	attempts   = "attempts"    // deliveries are counted, and the count is shown
	paging     = "paging"      // lists have pages
	headers    = "headers"     // messages have headers
	purging    = "purge"       // messages can be removed
)

// has reports whether the server has an extension. The 2024 server and sinks have none.
func (s schedule) has(extension string) bool {
	return s.Mode == server.Documented && !s.Sinks && !slices.Contains(s.Without, extension)
}

// faultPlan is a fault: what goes wrong, when and for how long.
type faultPlan struct {
	At, For time.Duration // For is wholeRun if it does not end
	Kind    faultKind
	Op      sequintest.Op // the operation that it applies to
	Share   int           // of the requests, or dials, that it applies to, in percent, at random
	Delay   time.Duration // of the kinds that are slow, and of a proxy's read time-out
	Limit   int           // of the kinds that depend on a size, in bytes; of a slow link, in bytes a second
	Status  int           // of foreign and refusal
	Acted   bool          // of foreign: the server has acted
}

// wholeRun is longer than any run.
const wholeRun = 24 * time.Hour

// String prints the whole schedule, with a line for each part.
func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s, sinks %v, without %v, stream %+v\n", s.Seed, s.Mode, s.Sinks, s.Without, s.Stream)
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
		fmt.Fprintf(&b, "  worker w%d of c%d: start %v, timeout %v, says %v, in flight %d or %d bytes, pollers %d, wait %v, margin %v, drain %v, Handle %v, batch %d, %d readers, %+v, %v at %v with %v\n",
			i, w.Consumer, w.Start, w.Timeout, w.SaidWait, c.MaxInFlight, c.MaxInFlightBytes, c.Pollers, c.WaitFor, c.LeaseMargin, c.DrainTimeout, w.Handle, w.Batch, w.Readers, w.Habits, w.End, w.EndAt, w.Patience)
	}
	for _, p := range s.Purges {
		fmt.Fprintf(&b, "  purge %+v\n", p)
	}
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  fault %+v\n", f)
	}
	return b.String()
}

// keyOf returns the i-th key. The keys are in three groups, so that filters select some of them.
func keyOf(i int) string { return fmt.Sprintf("%c.%d", 'a'+rune(i%3), i/3) }
