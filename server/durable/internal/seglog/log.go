// Package seglog is a log in a directory: records in segment files, which one process appends to, and snapshots of the
// state that the records make.
//
// A record has a kind, the number of a stream, and a body, which only the caller understands. Append puts it into a buffer
// and fixes its position. One goroutine writes the whole buffer at once and syncs the file (group commit). Wait says when
// a record is as safe as the Policy promises.
//
// # Opening
//
// Open takes the lock of the directory, checks the headers of all segments and reads the last segment. It decides whether
// bytes that are no good record are the torn end of a log that stopped while it wrote, which it cuts off, or damage. Each
// record says what was synced when it was made. A bad record below that mark of any later record was on disk once, so that
// it is damage: a *store.DamagedError. Replay then reads the records from the newest snapshot on, and Start starts the
// writer:
//
//	l, err := seglog.Open(dir, seglog.Options{})
//	from, err := l.ReadSnapshot(func(r io.Reader) error { … })
//	err = l.Replay(from, func(r seglog.Record) error { … })
//	err = l.Start()
//
// # Failures
//
// When a write fails, the log cuts the file back to the last good record. Every record that was not written is lost, and
// every Wait for one returns the error: store.ErrDiskFull or store.ErrFailed. So does every Wait for a record that is
// appended afterwards. Recover makes the log usable again: the caller drops its state, and reads it with ReadSnapshot and
// Replay again. A sync that fails ends the log for good, since the system may have dropped what it could not write; what
// was written and not synced may or may not be in the log when it is opened again, so that the errors match
// store.ErrUnknown too.
//
// # Files
//
//	FORMAT          the version of the format and the id of the store
//	lock            locked by the process that has the log open, and names it
//	00000001.seg    segments; each header has the checksum of the header before it
//	spare           the next segment, with its room reserved
//	snap-…          snapshots, by the position at which replay starts
package seglog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// Policy says when a record is committed, which is what Wait waits for. The zero Policy is SyncAlways: a record is
// committed when it is synced. With Every set a record is committed when it is written to the system, and the log is
// synced Every after the first write that is not.
type Policy struct{ Every time.Duration }

// Options configures Open.
type Options struct {
	FS           vfs.FS        // default vfs.OS
	SegmentBytes int64         // size of a segment; default 64 MiB; a larger record gets a larger segment
	Policy       Policy        // default: synced before Wait returns
	MinFree      int64         // bytes that Free wants on the volume; default the smaller of 1 GiB and 5 % of it; negative: 0
	MaxQueued    int64         // bytes waiting to be written from which on WaitRoom waits; default 64 MiB
	IdleMark     time.Duration // how long after the last record the log notes that all is synced; default 1 s
	OpenSegments int           // how many are open for reading at most; default 256
	ReadOnly     bool          // open for Replay and reads alone; writes nothing, not even the cut of a torn end
	Logger       *slog.Logger  // default: discard

	// OnSync is called after each sync of a segment, also one that failed, with the time that it took; default nil. It is called on the
	// goroutine that writes, or beside it.
	OnSync func(took time.Duration)
}

// MaxKind is the highest kind that a caller may give a record. The log has records of its own above it. Replay and Readers
// show those of KindLost, which stand for what a repair could not read.
const MaxKind = 0xef

// MaxBody is the size of the largest body: a segment's offsets have 32 bits.
const MaxBody = 1 << 30

// Record is one record of the log.
type Record struct {
	Pos     Pos
	End     Pos    // of the record in its segment; the next record starts here or in the next segment
	Kind    byte   // at most MaxKind, or KindLost
	Stream  uint32 // as given to Append
	Opening uint32 // the number of the opening that appended it
	Body    []byte // valid until the function that was given the record returns, or until the Reader reads again
}

// Size returns how many bytes of the log the record takes.
func (r Record) Size() int64 { return int64(r.End - r.Pos) }

// Log is an open log. Its methods may be called concurrently, except that ReadSnapshot, Replay, Start, Recover and Close
// belong to one goroutine.
type Log struct {
	dir     string
	o       Options
	lock    io.Closer
	store   [16]byte // the id that all files of this log carry
	seed    seed
	opening uint32
	base    Pos   // what ReadSnapshot has returned
	torn    int64 // bytes of the torn end that Open found

	queue     *queue
	segments  *segmentTable
	removed   removedSet
	space     *space
	writer    *writer
	snapshots struct {
		list    atomic.Pointer[[]snapshotHead] // those that are whole, newest first
		writing chan struct{}                  // has room for one, who writes one
	}
}

// Opening returns the number of this opening of the log. It is above that of every earlier one that wrote a record.
func (l *Log) Opening() uint32 { return l.opening }

// Torn returns how many bytes were cut off when the log was opened: those that it wrote when it stopped.
func (l *Log) Torn() int64 { return l.torn }

// ID returns the id of the store, which is drawn when the directory is made.
func (l *Log) ID() [16]byte { return l.store }

// Append appends a record and returns its position. It copies the body. It fixes the order of the records, does not wait,
// and does not fail: Wait for the position returns the error of a log that has failed or is closed. The kind is at most
// MaxKind, the body has at most MaxBody bytes.
func (l *Log) Append(kind byte, stream uint32, body []byte) Pos {
	if kind > MaxKind || len(body) > MaxBody {
		panic(fmt.Sprintf("seglog: a record of kind %d with %d bytes", kind, len(body)))
	}
	return l.queue.append(kind, stream, body, l.seed.checksum(body))
}

// WaitRoom waits until fewer than MaxQueued bytes wait to be written. It returns the cause of ctx when that ends first, and
// the error of a log that has failed or is closed. Call it before the lock under which Append is called. It reserves
// nothing: what several callers append together may exceed MaxQueued by one record of each.
func (l *Log) WaitRoom(ctx context.Context) error { return l.queue.waitRoom(ctx) }

// WaitWritten waits until the record at pos, which Append returned, is written to the system: it survives the end of the
// process. It returns store.ErrUnknown with the cause of ctx when that ends first; the record is still written then. It
// returns store.ErrFailed or store.ErrDiskFull, wrapped, for a record that is lost, and store.ErrClosed for one that was
// appended after Close. The zero Pos needs no wait.
func (l *Log) WaitWritten(ctx context.Context, pos Pos) error { return l.queue.wait(ctx, pos, false) }

// WaitDurable waits until the record at pos is synced: it survives a loss of power. It asks for a sync when the policy does
// not make one at once. The errors are those of WaitWritten. That of a failed sync matches store.ErrUnknown too.
func (l *Log) WaitDurable(ctx context.Context, pos Pos) error { return l.queue.wait(ctx, pos, true) }

// Wait waits until the record at pos is committed: synced by SyncAlways, else written.
func (l *Log) Wait(ctx context.Context, pos Pos) error {
	return l.queue.wait(ctx, pos, l.queue.always)
}

// Sync waits until everything that is appended is synced. The errors are those of WaitDurable.
func (l *Log) Sync(ctx context.Context) error { return l.queue.sync(ctx) }

// Committed reports whether Wait for pos would return at once without an error. It takes no lock.
func (l *Log) Committed(pos Pos) bool {
	done, err := l.queue.reached(pos, l.queue.always)
	return done && err == nil
}

// End returns where the next record goes: all records below it are appended.
func (l *Log) End() Pos { return l.queue.tail() }

// Written returns the position below which all records are written to the system.
func (l *Log) Written() Pos { return Pos(l.queue.written.Load()) }

// Durable returns the position below which all records are synced.
func (l *Log) Durable() Pos { return Pos(l.queue.durable.Load()) }

// Syncs returns how often a segment was synced since Open.
func (l *Log) Syncs() int64 { return l.writer.syncs.Load() }

// Failed returns a channel that is closed when the log fails or is closed. After Recover there is a new one.
func (l *Log) Failed() <-chan struct{} {
	failed, _ := l.queue.failure()
	return failed
}

// Err returns why the log has failed: store.ErrFailed or store.ErrDiskFull, wrapped; store.ErrClosed after Close; else nil.
func (l *Log) Err() error {
	_, err := l.queue.failure()
	return err
}

// Segments describes the segments in the order of their numbers.
func (l *Log) Segments() []SegmentInfo { return l.segments.infos(l.Written()) }

// Free returns an error that matches store.ErrDiskFull when the volume has less than MinFree bytes for new messages, and from
// then on until it has 1.2 times as many. It asks the system at most once a second. Records that make room, such as those
// of acks, are appended in spite of it: they have the rest of the segment and the spare one.
func (l *Log) Free() error { return l.space.free() }
