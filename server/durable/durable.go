// Package durable is a store for server.Config that keeps streams and consumers in a directory.
//
//	st, err := durable.Open("/var/lib/sequin", durable.Options{})
//	srv := server.New(server.Config{Store: st})
//
// One process uses a directory at a time. What the server has answered with 2xx is on disk: after SyncAlways, the default,
// it survives a loss of power, and after SyncEvery the end of the process. Streams, messages, consumers, what each of them
// has settled, delivery counts, leases and idempotency keys survive. docs/durability.md says what each policy promises, and
// how much memory and disk a message takes.
package durable

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/backlog"
)

// SyncPolicy says when a change is answered. The zero value is SyncAlways.
type SyncPolicy struct{ every time.Duration }

// SyncAlways answers a change when it is synced to disk. Changes that are made at the same time share a sync.
var SyncAlways = SyncPolicy{}

// SyncEvery answers a change when it is written to the system, and syncs d after the first write that is not synced, or once
// 8 MiB are not. A loss of power takes the changes of at most d and of one sync: the newest, without a gap, and none by half. At most 0 is
// SyncAlways.
func SyncEvery(d time.Duration) SyncPolicy { return SyncPolicy{max(0, d)} }

// Every returns the argument of SyncEvery, or 0 for SyncAlways.
func (p SyncPolicy) Every() time.Duration { return p.every }

// String returns "always", or the duration.
func (p SyncPolicy) String() string {
	if p.every == 0 {
		return "always"
	}
	return p.every.String()
}

// Options configures Open. The zero value is a good choice.
type Options struct {
	Sync SyncPolicy
	// MinFree is how many bytes the volume must have free for a send. Below it sends are refused until 1.2 times as many are
	// free. All else goes on: receives, acks, deletes, and the creation of streams and consumers. Default: 1 GiB, or 5 % of
	// the volume if that is less. Negative means 0.
	MinFree int64
	// MaxKeyBytes limits the memory for the index of streams that keep one message per key: about 80 bytes a key, and up to
	// twice as much after many replacements. A send that would exceed it is refused as a send to a full stream is.
	// Default 4 GiB.
	MaxKeyBytes int64
	// OpenSegments is how many segments stay open for reading at most; default 256. A store opens about 8 other files.
	OpenSegments int
	// Logger gets what an operator should know. Default: none.
	Logger *slog.Logger
	// OnSync is called after each sync of the log with the time that it took, for metrics; default: not. It must return quickly,
	// because answers wait for it. It is not called concurrently.
	OnSync func(took time.Duration)

	// For tests.
	FS            vfs.FS
	SegmentBytes  int64 // default 64 MiB
	SnapshotBytes int64 // of the log between two snapshots, default 256 MiB
	CleanSlack    int64 // dead bytes that are left, default 128 MiB
	maxMet        int
	repaired      map[uint32]*extents // of the messages of streams by their numbers, after a repair
}

const (
	defaultMaxKeyBytes   = 4 << 30
	defaultSnapshotBytes = 256 << 20
)

func (o Options) withDefaults() Options {
	o.MaxKeyBytes = cmp.Or(o.MaxKeyBytes, defaultMaxKeyBytes)
	o.SnapshotBytes = cmp.Or(o.SnapshotBytes, defaultSnapshotBytes)
	o.CleanSlack = cmp.Or(o.CleanSlack, cleanSlack)
	o.maxMet = cmp.Or(o.maxMet, backlog.MaxMet)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) log() seglog.Options {
	return seglog.Options{
		FS: o.FS, SegmentBytes: o.SegmentBytes, MinFree: o.MinFree, OpenSegments: o.OpenSegments, Logger: o.Logger, OnSync: o.OnSync,
		Policy: seglog.Policy{Every: o.Sync.every},
	}
}
