package durable

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/binary"
)

// Report says what Check or Repair has found in a directory.
type Report struct {
	Store     string         `json:"store"` // its id
	Segments  int            `json:"segments"`
	Snapshots int            `json:"snapshots"`
	Records   int64          `json:"records"`
	Bytes     int64          `json:"bytes"`
	Torn      int64          `json:"torn_bytes"` // that were being written when the store stopped; no fault
	Streams   []StreamReport `json:"streams"`
	Faults    []Fault        `json:"faults"`
}

// StreamReport is what a directory has of a stream.
type StreamReport struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Messages  int        `json:"messages"` // that can be read
	Consumers int        `json:"consumers"`
	Lost      []SeqRange `json:"lost"` // messages that cannot be read; some may have been acked or replaced before
}

// SeqRange is the messages from First to Last.
type SeqRange struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// Fault is something that is not as it was written.
type Fault struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"` // of the bad bytes, 0 when it is not known
	Text   string `json:"text"`
}

// Check reads everything in the directory of a store that is not open, and reports every fault: bytes that are not as they
// were written, files that are missing, and a snapshot that is not what the log makes. It changes nothing. Its error says that
// it could not do its work.
func Check(ctx context.Context, dir string) (Report, error) { return check(ctx, dir, nil) }

func check(ctx context.Context, dir string, fs vfs.FS) (Report, error) {
	c := newChecker()
	r, err := seglog.Check(ctx, dir, c.survey(fs))
	return c.report(r), err
}

// Repair writes what can be read of the store in dir to the directory to, which must be empty or not exist and may not be
// inside dir, and changes nothing in dir. Messages that cannot be read are in the report. What consumers have settled near them may be lost too:
// then messages come again, but none is left out. The report is that of Check for dir. What Check finds in the repaired
// directory is part of the error.
func Repair(ctx context.Context, dir, to string) (Report, error) {
	if inside(to, dir) {
		return Report{}, fmt.Errorf("%s is inside %s, which must not change", to, dir)
	}
	return repair(ctx, dir, to, nil)
}

// inside reports whether a path lies below a directory.
func inside(path, dir string) bool {
	absolute := func(p string) string {
		p, _ = filepath.Abs(p)
		if real, err := filepath.EvalSymlinks(p); err == nil {
			return real
		}
		// The last elements may not exist yet.
		if real, err := filepath.EvalSymlinks(filepath.Dir(p)); err == nil {
			return filepath.Join(real, filepath.Base(p))
		}
		return p
	}
	rel, err := filepath.Rel(absolute(dir), absolute(path))
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

func repair(ctx context.Context, dir, to string, fs vfs.FS) (Report, error) {
	c := newChecker()
	r, err := seglog.Repair(ctx, dir, to, c.survey(fs))
	if err != nil {
		return c.report(r), err
	}
	st, err := Open(to, Options{FS: fs, MinFree: -1, repaired: c.extents})
	if err != nil {
		return c.report(r), fmt.Errorf("open the repaired store: %w", err)
	}
	if err := st.Close(); err != nil {
		return c.report(r), fmt.Errorf("close the repaired store: %w", err)
	}
	after, err := check(ctx, to, fs)
	if err == nil && len(after.Faults) > 0 {
		err = fmt.Errorf("the repaired store has %d faults, the first in %s: %s", len(after.Faults), after.Faults[0].File, after.Faults[0].Text)
	}
	return c.report(r), err
}

// repaired makes the indexes of streams that append again, since a repair may have lost messages, and counts their bytes. No
// snapshot may hold the old ones.
func (st *Store) repaired(g *registry) error {
	for _, s := range g.all() {
		if s.keyed != nil {
			continue
		}
		found := st.options.repaired[s.sid]
		if found == nil {
			found = &extents{}
		}
		_ = s.locked(func() error { s.rebuild(*found); return nil })
		bytes := int64(0)
		err := s.scan(0, func(m *rawMessage) bool {
			bytes += m.size()
			return true
		})
		if err != nil {
			return err
		}
		_ = s.locked(func() error { s.appended.bytes = bytes; return nil })
	}
	for range snapshotsKept {
		st.append(kindNothing, 0, nil)
		if err := st.keeper.snapshot(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// snapshotsKept is how many snapshots the log keeps.
const snapshotsKept = 2

// checker makes the state from each snapshot and the records behind it. They must be equal.
type checker struct {
	states  []*checkedState // oldest first; the first one may have no snapshot
	extents map[uint32]*extents
	gaps    map[uint32]*gaps
	lost    int // runs of bad bytes so far
}

type checkedState struct {
	from     seglog.Pos
	rebuilds bool // it needs the records below from too
	store    *Store
	registry *registry
}

// gaps finds the messages of a stream that are missing.
type gaps struct {
	last int64      // seq
	pos  seglog.Pos // of the record that has it
	lost int        // checker.lost then
	list []gap
}

// gap is messages that no send stores: the bytes behind from are bad, or cleaning has copied to some place behind what lived.
type gap struct {
	SeqRange
	from seglog.Pos
	lost int // checker.lost at from
}

func newChecker() *checker { return &checker{extents: map[uint32]*extents{}, gaps: map[uint32]*gaps{}} }

func (c *checker) survey(fs vfs.FS) seglog.Survey {
	return seglog.Survey{FS: fs, Snapshot: c.snapshot, Record: c.record}
}

func (c *checker) add(from seglog.Pos) *checkedState {
	st := &Store{options: Options{Logger: slog.New(slog.DiscardHandler)}.withDefaults(), clock: clock{time.Now()}, snapshotEnd: math.MaxUint64}
	s := &checkedState{from: from, store: st, registry: newRegistry()}
	c.states = append(c.states, s)
	return s
}

func (c *checker) snapshot(from seglog.Pos, r io.Reader) error {
	s := c.add(from)
	err := s.store.readSnapshot(r, s.registry)
	if err != nil {
		c.states = c.states[:len(c.states)-1]
	}
	s.rebuilds = s.store.rebuilds(s.registry)
	return err
}

func (c *checker) record(rec seglog.Record) error {
	if len(c.states) == 0 {
		c.add(0)
	}
	if rec.Kind == seglog.KindLost {
		c.lost++
	}
	if err := c.count(rec); err != nil {
		return err
	}
	for _, s := range c.states {
		if rec.Pos < s.from && !s.rebuilds {
			continue
		}
		if err := s.registry.apply(s.store, rec); err != nil {
			return err
		}
	}
	return nil
}

// count notes where the messages of a record are, and which seqs a send leaves out.
func (c *checker) count(rec seglog.Record) error {
	if !hasMessages(rec.Kind) {
		return nil
	}
	found := c.extents[rec.Stream]
	if found == nil {
		found = &extents{}
		c.extents[rec.Stream] = found
	}
	if err := found.record(rec); err != nil || isMoved(rec.Kind) {
		return err
	}
	r := readSendHead(binary.NewReader(rec.Body), rec.Kind)
	g := c.gaps[rec.Stream]
	if g == nil {
		g = &gaps{}
		c.gaps[rec.Stream] = g
	}
	if r.first > g.last+1 {
		g.list = append(g.list, gap{SeqRange{g.last + 1, r.first - 1}, g.pos, g.lost})
	}
	g.last, g.pos, g.lost = max(g.last, r.first+int64(r.count)-1), rec.Pos, c.lost
	return nil
}

// lostOf returns the messages of a stream that cannot be read. Of a stream with one message per key those are the gaps
// with a fault behind; some of their messages were replaced before.
func (c *checker) lostOf(s *stream, faults []seglog.Fault) []SeqRange {
	lost := []SeqRange{}
	if s.keyed == nil {
		found := c.extents[s.sid]
		if found == nil {
			found = &extents{}
		}
		l, oldest := found.index(s.first, s.last)
		all := l.holes
		if oldest > s.first {
			all = slices.Insert(all, 0, hole{first: s.first, last: oldest - 1})
		}
		return append(lost, all.purge(s.appended.holes.purged()).lost()...)
	}
	g := c.gaps[s.sid]
	if g == nil {
		g = &gaps{}
	}
	list := g.list
	if s.last > g.last {
		list = append(list, gap{SeqRange{g.last + 1, s.last}, g.pos, g.lost})
	}
	for _, gap := range list {
		behind := func(f seglog.Fault) bool { return f.Pos >= gap.from }
		if c.lost > gap.lost || slices.ContainsFunc(faults, behind) {
			lost = s.keyed.appendMissing(lost, max(gap.First, s.first), gap.Last)
		}
	}
	return lost
}

// appendMissing appends the ranges of the messages from first to last that do not live.
func (k *keyedLog) appendMissing(to []SeqRange, first, last int64) []SeqRange {
	k.index.Ascend(first, func(e *keyindex.Entry) bool {
		if e.Seq > last {
			return false
		}
		if e.Seq > first {
			to = append(to, SeqRange{first, e.Seq - 1})
		}
		first = e.Seq + 1
		return true
	})
	if first <= last {
		to = append(to, SeqRange{first, last})
	}
	return to
}

// report completes the report of the log.
func (c *checker) report(r seglog.Report) Report {
	out := Report{
		Store: r.Store, Segments: r.Segments, Snapshots: r.Snapshots, Records: r.Records, Bytes: r.Bytes, Torn: r.Torn,
		Streams: []StreamReport{}, Faults: []Fault{},
	}
	if id, err := uuid.Parse(r.Store); err == nil {
		out.Store = id.String()
	}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, Fault{f.File, f.Offset, f.Size, f.Text})
	}
	if len(c.states) == 0 {
		return out
	}
	newest := c.states[len(c.states)-1]
	for _, s := range newest.registry.all() {
		if s.keyed != nil {
			s.keyed.finish(s.first)
		}
		lost := c.lostOf(s, r.Faults)
		out.Streams = append(out.Streams, StreamReport{s.id, s.options.Name, readable(s, lost), len(s.consumers), lost})
	}
	if len(r.Faults) == 0 && r.Lost == 0 {
		out.Faults = append(out.Faults, c.compare()...)
	}
	return out
}

// readable returns how many messages of a stream can be read.
func readable(s *stream, lost []SeqRange) int {
	if s.keyed != nil {
		return s.messages()
	}
	n := s.last - s.first + 1
	for _, l := range slices.Concat(lost, s.appended.holes.purged()) {
		n -= l.Last - l.First + 1
	}
	return int(n)
}

// compare returns a fault for each stream that is not the same from all snapshots.
func (c *checker) compare() (faults []Fault) {
	want := c.states[0].fingerprints()
	for _, s := range c.states[1:] {
		got := s.fingerprints()
		for name, state := range want {
			if !bytes.Equal(state, got[name]) {
				faults = append(faults, Fault{File: fmt.Sprintf("snap-%016x", uint64(s.from)), Text: name + " is not what the log makes of it"})
			}
		}
		if len(got) != len(want) {
			faults = append(faults, Fault{File: fmt.Sprintf("snap-%016x", uint64(s.from)), Text: "the streams are not those of the log"})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return bytes.Compare([]byte(a.Text), []byte(b.Text)) })
	return faults
}

// fingerprints returns the state of each stream with its consumers.
func (s *checkedState) fingerprints() map[string][]byte {
	all := map[string][]byte{}
	for _, st := range s.registry.all() {
		if st.keyed != nil {
			st.keyed.finish(st.first)
		}
		all["stream "+st.options.Name] = st.fingerprint()
	}
	return all
}

// fingerprint is a hash of the state of a stream with its consumers.
func (s *stream) fingerprint() []byte {
	h := sha256.New()
	b := appendCopyMark(appendStream(nil, s.id, s.at, s.options), s.mark)
	for _, n := range []int64{s.first, s.last, s.lastAt, int64(s.nextCID)} {
		b = binary.AppendInt(b, n)
	}
	if s.keyed == nil {
		b = s.appended.appendTo(b)
	} else {
		s.keyed.index.Ascend(0, func(e *keyindex.Entry) bool {
			fmt.Fprintln(h, e.Seq, e.Pos, e.InsertedAt, e.Size, e.Key, e.Data)
			return true
		})
	}
	h.Write(appendSuccesses(b, s.sent.list))
	for _, c := range s.consumers {
		r := consumerRecord{c.cid, c.info.ID, c.info.InsertedAt.UnixNano(), c.info.ConsumerOptions}
		b = binary.AppendInt(r.appendTo(b[:0]), c.info.UpdatedAt.UnixNano())
		h.Write(c.backlog.AppendTo(b))
	}
	return h.Sum(nil)
}
