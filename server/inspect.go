package server

import (
	"context"
	"math"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// StreamState is a copy of a stream, for tests and tools.
type StreamState struct {
	ID, Name  string
	Messages  []MessageState  // by ascending seq
	Consumers []ConsumerState // in the order of their creation
}

// MessageState is a message of a stream.
type MessageState struct {
	Key, Data             string
	Headers               map[string]string // nil for none
	Seq                   int64
	InsertedAt, UpdatedAt time.Time
}

// ConsumerState is a copy of a consumer.
type ConsumerState struct {
	ID, Name, Filter string
	Waiting          int // receives in a long poll
	Available        int // messages that a receive could get now if there were no max_ack_pending
	Delayed          int // messages that a nack keeps back
	Outstanding      []OutstandingState
}

// OutstandingState is a message on lease: delivered, and neither settled nor expired.
type OutstandingState struct {
	AckID, Key, Data string
	Seq              int64
	DeliverCount     int
	Until            time.Time // end of the lease
}

// StreamSize is what a stream holds.
type StreamSize struct {
	ID, Name string
	Messages int
	Bytes    int64 // of keys, headers and data
	Traffic  StreamTraffic
}

// ConsumerLoad is what a consumer has to do.
type ConsumerLoad struct {
	ID, Name string
	Stream   string // its name
	Backlog  int    // messages that match its filter and are not settled, those on lease included
	// Estimated says that Backlog is an estimate: by the part of the messages that its filter has matched so far.
	Estimated   bool
	Outstanding int       // messages on lease
	Delayed     int       // messages that a nack keeps back
	Waiting     int       // receives that wait
	Oldest      time.Time // when the oldest message of the backlog was stored; zero for none
	Traffic     ConsumerTraffic
}

// StreamSizes returns what each stream holds, newest first. With an error, which is that of the store or of ctx, it returns what the
// store could tell.
func (s *Server) StreamSizes(ctx context.Context) ([]StreamSize, error) {
	infos, err := store.StreamInfos(ctx, s.store)
	sizes := make([]StreamSize, len(infos))
	for i, info := range infos {
		sizes[i] = s.sizeOf(info)
	}
	return sizes, err
}

// StreamSize returns what one stream holds, found by name or id. ok is false if there is none or the store has failed.
func (s *Server) StreamSize(ctx context.Context, stream string) (size StreamSize, ok bool) {
	found, err := s.store.Stream(ctx, stream)
	if err != nil {
		return size, false
	}
	info, err := found.Info(ctx)
	return s.sizeOf(info), err == nil
}

func (s *Server) sizeOf(info store.StreamInfo) StreamSize {
	return StreamSize{ID: info.ID, Name: info.Name, Messages: info.Messages, Bytes: info.Bytes, Traffic: s.traffic.ofStream(info.ID)}
}

// ConsumerLoads returns what each consumer of a stream has to do, in the order of their creation. The stream is found by name or
// id. Consumers are left out if there is no such stream, if they are deleted meanwhile, or if the store has failed. It takes time
// for the messages on lease, and not for the others.
func (s *Server) ConsumerLoads(ctx context.Context, stream string) []ConsumerLoad {
	found, err := s.store.Stream(ctx, stream)
	if err != nil {
		return nil
	}
	info, err := found.Info(ctx)
	if err != nil {
		return nil
	}
	consumers, _ := found.Consumers(ctx)
	loads := make([]ConsumerLoad, 0, len(consumers))
	for _, c := range consumers {
		measured, ok := c.(store.Measured)
		if !ok {
			continue
		}
		m, err := measured.Measure(ctx)
		if err != nil {
			continue
		}
		named, err := c.Info(ctx)
		if err != nil {
			continue
		}
		load := ConsumerLoad{
			ID: named.ID, Name: named.Name, Stream: info.Name, Backlog: m.Backlog, Estimated: m.Estimated,
			Outstanding: m.Outstanding, Delayed: m.Delayed, Waiting: m.Waiting, Traffic: s.traffic.ofConsumer(info.ID, named.ID),
		}
		if m.OldestAt != 0 {
			load.Oldest = time.UnixMicro(m.OldestAt).UTC()
		}
		loads = append(loads, load)
	}
	return loads
}

// Streams returns the names of all streams, newest first. It leaves out what a store that has failed cannot tell.
func (s *Server) Streams() []string {
	names := []string{}
	sizes, _ := s.StreamSizes(context.Background())
	for _, size := range sizes {
		names = append(names, size.Name)
	}
	return names
}

// Inspect returns a copy of a stream, found by name or id, and false if there is none or the store has failed. It copies every message. The parts
// are copied one after the other: a request that runs meanwhile may show in one part and not in another.
func (s *Server) Inspect(stream string) (StreamState, bool) {
	ctx := context.Background()
	found, err := s.store.Stream(ctx, stream)
	if err != nil {
		return StreamState{}, false
	}
	state, err := inspect(ctx, found)
	return state, err == nil
}

// listAll returns all messages of a stream by ascending seq.
func listAll(ctx context.Context, s store.Stream) (all []store.Message, err error) {
	q := store.ListQuery{Limit: math.MaxInt}
	for {
		page, err := s.List(ctx, q)
		if err != nil || len(page) == 0 {
			return all, err
		}
		all = append(all, page...)
		q = q.Next(page[len(page)-1].Seq)
	}
}

func inspect(ctx context.Context, found store.Stream) (StreamState, error) {
	info, err := found.Info(ctx)
	if err != nil {
		return StreamState{}, err
	}
	all, err := listAll(ctx, found)
	if err != nil {
		return StreamState{}, err
	}
	consumers, err := found.Consumers(ctx)
	if err != nil {
		return StreamState{}, err
	}
	state := StreamState{ID: info.ID, Name: info.Name}
	for _, m := range all {
		state.Messages = append(state.Messages, MessageState{
			Key: m.Key, Data: m.Data, Headers: m.Headers.Map(), Seq: m.Seq,
			InsertedAt: time.UnixMicro(m.InsertedAt).UTC(), UpdatedAt: time.UnixMicro(m.UpdatedAt).UTC(),
		})
	}
	for _, c := range consumers {
		cs, err := c.State(ctx)
		if err != nil {
			return StreamState{}, err
		}
		state.Consumers = append(state.Consumers, consumerState(cs))
	}
	return state, nil
}

func consumerState(c store.ConsumerState) ConsumerState {
	state := ConsumerState{
		ID: c.Info.ID, Name: c.Info.Name, Filter: c.Info.Filter,
		Waiting: c.Waiting, Available: c.Available, Delayed: c.Delayed,
	}
	for _, o := range c.Outstanding {
		state.Outstanding = append(state.Outstanding, OutstandingState{
			AckID: o.ID.String(), Key: o.Key, Data: o.Data, Seq: o.Seq, DeliverCount: o.Count, Until: o.Until,
		})
	}
	return state
}
