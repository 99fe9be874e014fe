package seglog

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
)

// seeds is how many random loads the tests run.
var seeds = flag.Uint64("seeds", 2, "number of random loads")

const testDir = "data"

// small are options under which a few dozen records fill a segment.
func small(fs *crashfs.FS) Options {
	return Options{FS: fs, SegmentBytes: smallestSize, MinFree: -1}
}

// numbered is the body of record n: its number, and a tail whose length and bytes depend on it.
func numbered(n uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, n)
	return append(b, bytes.Repeat([]byte{byte(n)}, int(n*7919%300))...)
}

// started opens a log, reads it, and starts it. It returns the numbers of its records.
func started(t testing.TB, o Options) (*Log, []uint32) {
	t.Helper()
	l, err := Open(testDir, o)
	require.NoError(t, err)
	all, err := replayed(l)
	require.NoError(t, err)
	require.NoError(t, l.Start())
	return l, all
}

// replayed returns the numbers of the records from the newest snapshot on, or of all when there is none. A snapshot holds
// the numbers below it.
func replayed(l *Log) (all []uint32, err error) {
	from, err := l.ReadSnapshot(func(r io.Reader) error {
		b, err := io.ReadAll(r)
		for ; len(b) > 0; b = b[4:] {
			all = append(all, binary.LittleEndian.Uint32(b))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = l.Replay(from, func(r Record) error {
		n := binary.LittleEndian.Uint32(r.Body)
		if !bytes.Equal(numbered(n), r.Body) || r.Stream != n || r.Kind != byte(n%MaxKind) {
			return fmt.Errorf("record at %s is not as it was appended: %v", r.Pos, r)
		}
		all = append(all, n)
		return nil
	})
	return all, err
}

func appendNumber(l *Log, n uint32) Pos { return l.Append(byte(n%MaxKind), n, numbered(n)) }

// snapshotOf writes a snapshot of the numbers 0 to n-1.
func snapshotOf(l *Log, from Pos, n uint32) error {
	return l.WriteSnapshot(context.Background(), from, func(w io.Writer) error {
		for i := range n {
			if err := binary.Write(w, binary.LittleEndian, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func everySecond(o Options) Options {
	o.Policy = Policy{Every: time.Second}
	return o
}

// logged returns a logger and what it has logged.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}
