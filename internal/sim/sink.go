package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// source is the database of a run with sinks: each consumer of the schedule is a sink of its one table, and the publishers are
// programs that change its rows.
type source struct {
	mu      sync.Mutex // guards all below; held while a transaction is committed
	sinks   []*server.Sink
	rows    map[string]*rowData // by primary key
	commits []*commit           // the i-th has the seq i+1
}

// commit is a change of a row, as it was committed.
type commit struct {
	seq    int64
	action sequin.Action
	row    rowData  // after the change; for a delete the row before it
	before *rowData // of an update
}

// rowData is a row of the table.
type rowData struct {
	K   string `json:"k"` // the primary key
	N   int64  `json:"n"` // the seq of the change that wrote it
	Pad string `json:"pad"`
}

// maxPad keeps the message of a change, which has an old row too, below largestMessage.
const maxPad = 300

// rowKey returns the key of the deliveries of a row.
func rowKey(k string) string { return "public.rows." + strings.ReplaceAll(k, ".", "%2E") }

// fullIdentity reports whether the i-th sink delivers old values, as for a table with REPLICA IDENTITY FULL.
func fullIdentity(i int) bool { return i%2 == 0 }

func (w *world) prepareSinks() {
	w.source.rows = map[string]*rowData{}
	for i, c := range w.s.Consumers {
		sink := w.srv.Sink(consumerName(i), server.SinkOptions{Table: "rows", PrimaryKey: []string{"k"}, AckWait: c.AckWait, StartUp: c.StartUp})
		sink.SetReplicaIdentityFull(fullIdentity(i))
		w.source.sinks = append(w.source.sinks, sink)
	}
}

// changeRows runs a publisher of a run with sinks to its end. Its sends are changes of rows, and it has no other steps.
func (w *world) changeRows(i int, plan publisherPlan) {
	time.Sleep(plan.Start)
	d := newDrawer(w.s.Seed, uint64(i)+1)
	for _, st := range plan.Steps {
		time.Sleep(st.Pause)
		switch st.Do {
		case send, sendReceipt:
			for range st.N {
				require.NoError(w.t, w.source.commit(d, st, 1))
			}
		case trySend, sendSync:
			require.NoError(w.t, w.source.commit(d, st, st.N))
		}
	}
}

// commit commits a transaction of n changes. The LSN is chosen so that LSN and index add up to the seq of a change.
func (s *source) commit(d drawer, st step, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := server.SinkTransaction{LSN: int64(len(s.commits)) + 1}
	for range n {
		c := s.change(d, st)
		change := server.SinkChange{Action: string(c.action), Record: c.row}
		if c.before != nil {
			change.Before = *c.before
		}
		tx.Changes = append(tx.Changes, change)
	}
	for _, sink := range s.sinks {
		if err := sink.CommitTransaction(tx); err != nil {
			return err
		}
	}
	return nil
}

// change draws a change of a row: the insert of one that is not there, or another change of one that is.
func (s *source) change(d drawer, st step) *commit {
	k := keyOf(d.IntN(st.Keys))
	c := &commit{seq: int64(len(s.commits)) + 1, action: sequin.ActionInsert, before: s.rows[k]}
	c.row = rowData{K: k, N: c.seq, Pad: strings.Repeat("ü", d.IntN(min(st.Size, maxPad)+1)/2)} // two bytes each
	s.rows[k] = &c.row
	if c.before != nil {
		switch c.action = pick(d, sequin.ActionUpdate, sequin.ActionUpdate, sequin.ActionDelete, sequin.ActionRead); c.action {
		case sequin.ActionDelete:
			c.row, c.before = *c.before, nil
			delete(s.rows, k)
		case sequin.ActionRead:
			c.row, c.before = *c.before, nil
			s.rows[k] = &c.row
		}
	}
	s.commits = append(s.commits, c)
	return c
}

// left describes the changes that are not acked, as world.left does.
func (s *source) left() (left string) {
	for _, sink := range s.sinks {
		if x := sink.State(); x != (server.SinkState{}) {
			left += fmt.Sprintf("%d available, %d blocked and %d delivered changes of %s; ", x.Available, x.Blocked, x.Outstanding, sink.Name())
		}
	}
	return left
}

// all returns the commits, and what a stream would hold of them.
func (s *source) all() (commits []*commit, messages []server.MessageState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.commits {
		messages = append(messages, server.MessageState{Key: rowKey(c.row.K), Data: fmt.Sprintf(`{"id":%q}`, changeID(c.seq)), Seq: c.seq})
	}
	return slices.Clone(s.commits), messages
}

// restart does what a restart of a server of sinks does, and breaks its connections.
func (w *world) restart() {
	w.rec.note(func() { w.rec.restarts = append(w.rec.restarts, time.Now()) })
	w.srv.RestartSinks()
	w.srv.CutConnections()
}

func changeID(seq int64) string { return fmt.Sprintf("change/%d", seq) }

// changeData is what the simulation reads of the data of a change. It shares no code with the client.
type changeData struct {
	Record   struct{ K string }
	Metadata struct {
		LSN   int64 `json:"commit_lsn"`
		Index int64 `json:"commit_idx"`
	}
}

// readChange returns the key and the seq of a change.
func readChange(data string) (key string, seq int64) {
	var c changeData
	if json.Unmarshal([]byte(data), &c) != nil {
		return "", 0
	}
	return rowKey(c.Record.K), c.Metadata.LSN + c.Metadata.Index
}

// numbered returns a delivery with the seq of its change, which the client does not know.
func numbered(d sequin.Delivery) sequin.Delivery {
	if d.Sink() != "" {
		_, d.Seq = readChange(d.Data)
	}
	return d
}
